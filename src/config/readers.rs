//! How a written value becomes a typed one, and what is said when it does not.
//!
//! Promises:
//! - what is said names the form with an example, and the limits;
//! - a value that was refused comes back as the default, noted as a fault.
//!
//! Knows nothing of: single settings.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use url::Url;

use super::raw::{Raw, path_text};
use super::values;

/// Stands for a URL that has a fault, so that the rest is looked at too; never in what is handed out.
pub(super) fn stand_in() -> Option<Url> {
    Url::parse("http://localhost/").ok()
}

/// A URL to put paths behind: its own path ends in `/`, or `join` would drop the last part of it.
pub(super) fn base_url(raw: &mut Raw, path: &'static str, with_user: bool) -> Option<Url> {
    let wanted = if with_user {
        "an http or https URL without query and fragment"
    } else {
        "an http or https URL without user name, query and fragment"
    };
    raw.read(path, wanted, |value| {
        let mut url = Url::parse(value.as_str()?).ok()?;
        let named = !url.username().is_empty() || url.password().is_some();
        let fits = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && (with_user || !named);
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        fits.then_some(url)
    })
}

pub(super) fn text(raw: &mut Raw, path: &'static str) -> Option<String> {
    raw.read(path, "a text, not empty", |value| {
        value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
    })
}

pub(super) fn path(raw: &mut Raw, path: &'static str) -> Option<PathBuf> {
    raw.read(path, "a path, not empty", |value| path_text(value).map(PathBuf::from))
}

pub(super) fn flag(raw: &mut Raw, path: &'static str, default: bool) -> bool {
    raw.read(path, "true or false", Value::as_bool).unwrap_or(default)
}

pub(super) fn duration(raw: &mut Raw, path: &'static str, default: Duration) -> Duration {
    raw.read(path, values::DURATION_FORM, |value| values::duration(value.as_str()?))
        .unwrap_or(default)
}

pub(super) fn positive(raw: &mut Raw, path: &'static str, default: Duration) -> Duration {
    let wanted = format!("{}, above zero", values::DURATION_FORM);
    raw.read(path, &wanted, |value| {
        values::duration(value.as_str()?).filter(|duration| !duration.is_zero())
    })
    .unwrap_or(default)
}

pub(super) fn size(raw: &mut Raw, path: &'static str, least: u64, default: u64) -> u64 {
    let wanted = format!("{}, at least {}", values::SIZE_FORM, values::size_text(least));
    raw.read(path, &wanted, |value| values::size(value.as_str()?).filter(|size| *size >= least))
        .unwrap_or(default)
}

pub(super) fn number<N>(
    raw: &mut Raw,
    path: &'static str,
    range: RangeInclusive<N>,
    default: N,
) -> N
where
    N: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let wanted = format!("a whole number from {} to {}", range.start(), range.end());
    raw.read(path, &wanted, |value| {
        value.as_integer().and_then(|value| N::try_from(value).ok()).filter(|n| range.contains(n))
    })
    .unwrap_or(default)
}

pub(super) fn share(raw: &mut Raw, path: &'static str, default: f64) -> f64 {
    raw.read(path, "a number from 0 to 1", |value| {
        let share = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?;
        (0.0..=1.0).contains(&share).then_some(share)
    })
    .unwrap_or(default)
}

pub(super) fn choice<T: Copy>(
    raw: &mut Raw,
    path: &'static str,
    wanted: &str,
    choices: &[(&str, T)],
    default: T,
) -> T {
    raw.read(path, wanted, |value| {
        let text = value.as_str()?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
    })
    .unwrap_or(default)
}
