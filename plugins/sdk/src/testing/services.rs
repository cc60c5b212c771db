//! Time, stored values, published values and responses in native tests. Each thread, and so each test, has its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::http::{HttpError, HttpRequest, HttpResponse};

thread_local! {
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    static VALUES: RefCell<(BTreeMap<String, kv::Entry>, u64)> = const { RefCell::new((BTreeMap::new(), 0)) };
    static PUBLISHED: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static RESPONSES: RefCell<BTreeMap<String, HttpResponse>> = const { RefCell::new(BTreeMap::new()) };
    static SENT: RefCell<Vec<HttpRequest>> = const { RefCell::new(Vec::new()) };
}

/// Sets the wall-clock time, in Unix milliseconds, which stands still from then on.
pub fn set_time(unix_ms: u64) {
    NOW.set(Some(unix_ms));
}

/// Publishes a value, as a background task would.
pub fn publish(key: &str, value: impl Into<Vec<u8>>) {
    PUBLISHED.with_borrow_mut(|values| values.insert(key.to_owned(), value.into()));
}

/// Sets the response to requests of a URL. Requests without one fail.
pub fn respond(url: &str, response: HttpResponse) {
    RESPONSES.with_borrow_mut(|responses| responses.insert(url.to_owned(), response));
}

/// Returns the requests that were sent since the last time.
#[must_use]
pub fn take_sent() -> Vec<HttpRequest> {
    SENT.take()
}

pub(crate) fn time() -> Option<u64> {
    NOW.get()
}

pub(crate) fn published<T>(read: impl FnOnce(&BTreeMap<String, Vec<u8>>) -> T) -> T {
    PUBLISHED.with_borrow(read)
}

pub(crate) mod http {
    use super::{HttpError, HttpRequest, HttpResponse, RESPONSES, SENT};

    pub(crate) fn send(request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        SENT.with_borrow_mut(|sent| sent.push(request.clone()));
        let response = RESPONSES.with_borrow(|responses| responses.get(&request.url).cloned());
        response.ok_or_else(|| HttpError::Connection("the test has no response for this URL".to_owned()))
    }
}

pub(crate) mod kv {
    use super::VALUES;

    #[derive(Clone)]
    pub(crate) struct Entry {
        pub(crate) value: Vec<u8>,
        pub(crate) version: u64,
    }

    /// The error of the interface.
    pub(crate) enum KvError {
        Invalid(String),
        #[expect(dead_code, reason = "a test is never at a limit")]
        Full,
        #[expect(dead_code, reason = "values are always reachable in a test")]
        Unavailable(String),
    }

    pub(crate) fn get(key: &str) -> Result<Option<Entry>, KvError> {
        Ok(VALUES.with_borrow(|(values, _)| values.get(key).cloned()))
    }

    pub(crate) fn set(key: &str, value: &[u8], _: Option<u64>) -> Result<(), KvError> {
        VALUES.with_borrow_mut(|(values, version)| {
            *version += 1;
            values.insert(key.to_owned(), Entry { value: value.to_vec(), version: *version });
        });
        Ok(())
    }

    pub(crate) fn compare_and_set(
        key: &str,
        version: Option<u64>,
        value: &[u8],
        ttl: Option<u64>,
    ) -> Result<bool, KvError> {
        let is_same = get(key)?.map(|entry| entry.version) == version;
        if is_same {
            set(key, value, ttl)?;
        }
        Ok(is_same)
    }

    pub(crate) fn increment(key: &str, delta: i64, ttl: Option<u64>) -> Result<i64, KvError> {
        let invalid = || KvError::Invalid("the value is not a number".to_owned());
        let before = match get(key)? {
            Some(entry) => {
                let text = String::from_utf8(entry.value).map_err(|_| invalid())?;
                text.parse::<i64>().map_err(|_| invalid())?
            }
            None => 0,
        };
        let sum = before.saturating_add(delta);
        set(key, sum.to_string().as_bytes(), ttl)?;
        Ok(sum)
    }

    pub(crate) fn delete(key: &str) -> Result<bool, KvError> {
        Ok(VALUES.with_borrow_mut(|(values, _)| values.remove(key)).is_some())
    }
}
