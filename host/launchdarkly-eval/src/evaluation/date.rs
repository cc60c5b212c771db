//! Dates, as `before` and `after` understand them.

use std::cmp::Ordering;

use crate::model::{Literal, Value};

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Date {
    /// Unix milliseconds, without fraction; a float, because numbers may be beyond every integer.
    milliseconds: f64,
    /// Nanoseconds beyond the full millisecond; only texts have them.
    nanoseconds: u32,
}

impl Date {
    /// The date that a context's value stands for.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(Self::at(*number)),
            Value::Text(text) => Self::parse(text.as_str()),
            _ => None,
        }
    }

    /// The date that a clause value stands for.
    pub(super) fn of_literal(literal: &Literal) -> Option<Self> {
        match literal {
            Literal::Number(number) => Some(Self::at(*number)),
            Literal::Text(text) => Self::parse(text),
            Literal::Boolean(_) => None,
        }
    }

    fn at(number: f64) -> Self {
        Self { milliseconds: number.trunc(), nanoseconds: 0 }
    }

    /// Reads `YYYY-MM-DDTh:mm:ss[.digits](Z|±hh:mm)`.
    ///
    /// Like the vendor's parser it takes one-digit hours, day 31 in every month, second 60 and offsets up to 99 hours;
    /// unlike it, nothing may follow `Z`.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.as_bytes();
        let year = digits(&mut rest, 4)?;
        byte(&mut rest, b"-")?;
        let month = digits(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
        byte(&mut rest, b"-")?;
        let day = digits(&mut rest, 2).filter(|day| (1..=31).contains(day))?;
        byte(&mut rest, b"Tt")?;
        let hour_digits = if rest.get(1) == Some(&b':') { 1 } else { 2 };
        let hour = digits(&mut rest, hour_digits).filter(|hour| *hour < 24)?;
        byte(&mut rest, b":")?;
        let minute = digits(&mut rest, 2).filter(|minute| *minute < 60)?;
        byte(&mut rest, b":")?;
        let second = digits(&mut rest, 2).filter(|second| *second <= 60)?;
        let nanosecond = if byte(&mut rest, b".").is_some() { fraction(&mut rest)? } else { 0 };
        let offset = zone(&mut rest)?;
        if !rest.is_empty() {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
        #[expect(clippy::cast_precision_loss, reason = "years have four digits, so this is far below 2^53")]
        let milliseconds = (seconds * 1_000 + i64::from(nanosecond / 1_000_000)) as f64;
        Some(Self { milliseconds, nanoseconds: nanosecond % 1_000_000 })
    }
}

impl PartialOrd for Date {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let milliseconds = self.milliseconds.partial_cmp(&other.milliseconds)?;
        Some(milliseconds.then(self.nanoseconds.cmp(&other.nanoseconds)))
    }
}

/// Takes exactly `count` digits.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Takes one of `allowed`.
fn byte(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    allowed.contains(first).then(|| {
        *rest = tail;
        *first
    })
}

/// Takes one to nine digits after the point, as nanoseconds.
fn fraction(rest: &mut &[u8]) -> Option<u32> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    let number = head.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some((count..9).fold(number, |number, _| number * 10))
}

/// Takes `Z` or an offset, in seconds east.
fn zone(rest: &mut &[u8]) -> Option<i64> {
    let sign = match byte(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = digits(rest, 2)?;
    byte(rest, b":")?;
    let minutes = digits(rest, 2).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// Days since 1 January 1970 in the Gregorian calendar; a day past the end of its month rolls over.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(text: &str) -> Option<f64> {
        Date::parse(text).map(|date| date.milliseconds)
    }

    #[test]
    fn texts_become_instants() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2017-12-06T00:00:00-07:00", 1_512_543_600_000.0),
            ("2017-12-06T7:00:00.000Z", 1_512_543_600_000.0),
            ("2017-12-06t07:00:00z", 1_512_543_600_000.0),
            ("2017-02-30T00:00:00Z", 1_488_412_800_000.0),
            ("2017-03-02T00:00:00Z", 1_488_412_800_000.0),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000.0),
            ("1969-12-31T23:59:59.5Z", -500.0),
            ("2000-02-29T00:00:00+99:59", 951_782_400_000.0 - 359_940_000.0),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000.0),
            ("9999-12-31T23:59:59.999999999Z", 253_402_300_799_999.0),
        ] {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "2017-12-06",
            "2017-12-06T07:00:00",
            "2017-12-06 07:00:00Z",
            "2017-12-06T07:00Z",
            "2017-12-06T07:00:00.Z",
            "2017-12-06T07:00:00.1234567891Z",
            "2017-12-06T24:00:00Z",
            "2017-12-06T07:60:00Z",
            "2017-12-06T07:00:61Z",
            "2017-13-06T07:00:00Z",
            "2017-00-06T07:00:00Z",
            "2017-12-32T07:00:00Z",
            "2017-12-00T07:00:00Z",
            "2017-12-06T07:00:00+0700",
            "2017-12-06T07:00:00+07:60",
            "2017-12-06T07:00:00Zx",
            "17-12-06T07:00:00Z",
            "2017-12-06T07:00:00+07:00x",
            "٢017-12-06T07:00:00Z",
            "1512543600000",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    #[test]
    fn order_is_exact_to_the_nanosecond_and_numbers_lose_their_fraction() {
        let date = |text| Date::parse(text).expect(text);
        assert!(date("2017-12-06T07:00:00.000000001Z") > date("2017-12-06T07:00:00Z"));
        assert!(date("2017-12-06T07:00:00.000000001Z") > Date::at(1_512_543_600_000.9));
        assert_eq!(Date::at(-0.5), Date::at(0.0));
        assert!(Date::at(1e300) > Date::at(9.3e12 * 1e6));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,10})?[Zz+-]?[0-9:]{0,5}|\\PC*") {
            let _ = Date::parse(&text);
        }
    }
}
