//! Calendar days, as compatibility dates need them.

use engawa_model::Clock;

const DAY_S: u64 = 86_400;

/// Today in UTC, `YYYY-MM-DD`.
pub fn today(clock: &Clock) -> String {
    from_days(i64::try_from(clock.now_s() / DAY_S).unwrap_or(i64::MAX / 2))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant's
/// `days_from_civil`).
pub fn to_days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day, `YYYY-MM-DD` (`civil_from_days`).
pub fn from_days(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-800_000..800_000).step_by(13) {
            let date = from_days(days);
            if days > -719_000 {
                let mut parts = date.split('-').map(|part| part.parse::<i64>().unwrap());
                let (year, month, day) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
                assert_eq!(to_days(year, month, day), days, "{date}");
            }
        }
        assert_eq!(from_days(0), "1970-01-01");
        assert_eq!(from_days(19_782), "2024-02-29");
    }

    #[test]
    fn today_follows_the_clock() {
        assert_eq!(today(&Clock::from_fn(|| 1_732_406_400_000)), "2024-11-24");
    }
}
