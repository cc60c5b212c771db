//! Responses of the fake, by request.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;

use super::{FakeLaunchDarkly, GoalsAnswer, Recorded, Sent, StreamAnswer, big_segments, transfers};

pub(super) async fn answer(State(cloud): State<FakeLaunchDarkly>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let raw_body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let credential = parts.headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    if parts.method == Method::POST && cloud.lock().refuses_posts {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    cloud.lock().requests.push(Recorded {
        at: Instant::now(),
        method: parts.method.clone(),
        path,
        headers: parts.headers.clone(),
        raw_body,
    });
    match (parts.method, parts.uri.path()) {
        // With any prefix: a private instance may have one.
        (Method::GET, path) if path.ends_with("/all") => {
            let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
            stream(&cloud, &format!("{credential}{query}"))
        }
        (Method::GET, path) if path.ends_with("/sdk/poll") || path.ends_with("/sdk/stream") => {
            transfers::answer(&cloud, &credential, &parts.uri)
        }
        (Method::GET, "/relay_auto_config") => stream(&cloud, &credential),
        (Method::GET, path) if path.ends_with("/sdk/big-segments/revisions") => {
            big_segments::poll(&cloud, &credential, &parts.uri)
        }
        (Method::GET, path) if path.ends_with("/big-segments") => big_segments::stream(&cloud, &credential),
        (Method::POST, _) => post(&cloud).await,
        (Method::GET, path) if path.starts_with("/sdk/goals/") => {
            let scripted = cloud.lock().goals.clone();
            if let Some(answer) = scripted {
                return answer.into_response();
            }
            let headers = [(CONTENT_TYPE, "application/json"), (ACCESS_CONTROL_ALLOW_ORIGIN, "https://vendor")];
            (headers, r#"[{"goal":1}]"#).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl IntoResponse for GoalsAnswer {
    fn into_response(self) -> Response {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let response = response.body(Body::from(self.body));
        response.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

fn stream(cloud: &FakeLaunchDarkly, name: &str) -> Response {
    let mut locked = cloud.lock();
    let scripted = locked.next_streams.pop_front();
    match scripted {
        Some(StreamAnswer::Status(status)) => {
            return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        }
        Some(StreamAnswer::Redirect(path)) => return (StatusCode::FOUND, [(LOCATION, path)]).into_response(),
        Some(StreamAnswer::Silence) | None if locked.is_down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(StreamAnswer::Silence) | None => (),
    }
    let Some(environment) = locked.environments.get(name) else { return StatusCode::UNAUTHORIZED.into_response() };
    let has_first = environment.has_data && scripted.is_none();
    let first = futures_util::stream::iter(has_first.then(|| Sent::Bytes(environment.put())));
    // A client that cannot keep up loses the connection, never a message midway.
    let later = BroadcastStream::new(environment.events.subscribe()).map(|sent| sent.unwrap_or(Sent::Close));
    let later = later.filter(move |sent| {
        let is_heard = scripted.is_none() || matches!(sent, Sent::Close);
        async move { is_heard }
    });
    drop(locked);
    let bytes = first
        .chain(later)
        .take_while(|sent| {
            let is_open = !matches!(sent, Sent::Close);
            async move { is_open }
        })
        .filter_map(|sent| async {
            match sent {
                Sent::Bytes(bytes) => Some(Ok::<_, std::convert::Infallible>(bytes)),
                Sent::Close => None,
            }
        });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(bytes)).into_response()
}

async fn post(cloud: &FakeLaunchDarkly) -> Response {
    let (status, delay, date) = {
        let mut locked = cloud.lock();
        (locked.next_posts.pop_front().unwrap_or(202), locked.post_delay, locked.post_date)
    };
    tokio::time::sleep(delay).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match date {
        Some(date) => (status, [(DATE, date)]).into_response(),
        None => status.into_response(),
    }
}
