//! The `Date` header (RFC 9110 section 6.6.1), written once a second.

use crate::time::{Duration, Instant};
use std::time::{SystemTime, UNIX_EPOCH};

/// Length of an IMF-fixdate (RFC 9110 section 5.6.7).
pub(super) const BYTES: usize = 29;
/// How old the text may be: a quarter of its resolution.
const FRESH: Duration = Duration::from_millis(250);
const DAY_S: u64 = 86_400;

/// The time as text.
#[derive(Debug)]
pub(super) struct Date {
    text: [u8; BYTES],
    stale_at: Instant,
}

impl Date {
    pub(super) const fn new() -> Self {
        Self { text: *b"Thu, 01 Jan 1970 00:00:00 GMT", stale_at: Instant::ZERO }
    }

    /// As of `now`, which only says whether to look at the clock again.
    #[inline]
    pub(super) fn text(&mut self, now: Instant) -> &[u8; BYTES] {
        if now >= self.stale_at {
            self.stale_at = now + FRESH;
            self.text = format(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        }
        &self.text
    }
}

/// Seconds since 1970 as an IMF-fixdate.
fn format(seconds: u64) -> [u8; BYTES] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    // Years that begin in March have their leap day at the end; eras of 400 years are all alike.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = (era * 400 + year_of_era + u64::from(month < 2)) % 10_000;
    let text = format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format(seconds)).unwrap(), text);
        }
    }
}
