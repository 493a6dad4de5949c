//! Rules and routes with all times a sixth.

/// What times are divided by.
pub(crate) const SIXTH: u64 = 6;

/// Limits in seconds that stand in expressions, and not as durations.
const LIMITS: &[&str] = &["> 600", "< 600", "> 180", "> 420", "- time() > 30"];

/// `alerts.yml` with every duration, and every limit that is a time, divided.
pub(crate) fn rules(text: &str) -> String {
    let mut scaled = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        let key = line.trim_start().split(':').next().unwrap_or_default().to_owned();
        if key == "for" || key == "keep_firing_for" {
            line = divided(&line, ": ", "");
        } else if !line.trim_start().starts_with('#') && !line.contains("{{") {
            line = divided(&line, "[", "]");
            line = divided(&line, "offset ", ")");
            // a sixth of five minutes is just below the lowest band
            line = line.replace("lt_1m|lt_3m|lt_5m", "lt_1m");
            for limit in LIMITS {
                if let Some((before, after)) = line.split_once(limit) {
                    let (words, seconds) = limit.rsplit_once(' ').unwrap();
                    let seconds: u64 = seconds.parse().unwrap();
                    line = format!("{before}{words} {}{after}", seconds / SIXTH);
                }
            }
        }
        scaled.push_str(&line);
        scaled.push('\n');
    }
    for limit in LIMITS {
        assert!(text.contains(limit), "no rule has the limit {limit:?} any more");
    }
    scaled
}

/// `alertmanager.yml` with every duration divided, and each receiver calling here.
pub(crate) fn routes(text: &str, webhook: &str) -> String {
    let mut scaled = String::new();
    for line in text.lines() {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let is_time = ["group_wait", "group_interval", "repeat_interval"].contains(&key);
        scaled.push_str(&if is_time { divided(line, ": ", "") } else { line.to_owned() });
        scaled.push('\n');
        if let Some(name) = line.strip_prefix("  - name: ") {
            scaled += &format!("    webhook_configs: [{{ url: \"{webhook}/{name}\" }}]\n");
        }
    }
    scaled
}

/// Divides the durations that stand between two marks, wherever they do; up to the end where `end` is empty.
fn divided(line: &str, mark: &str, end: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(mark) {
        let length = if end.is_empty() { after.len() } else { after.find(end).unwrap_or(0) };
        let (times, after) = after.split_at(length);
        let times: Vec<String> = times.split(':').map(sixth).collect();
        done += &format!("{before}{mark}{}", times.join(":"));
        rest = after;
    }
    done + rest
}

/// A sixth of a duration; what is none stays.
fn sixth(text: &str) -> String {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return text.to_owned(),
    };
    number
        .parse()
        .map_or_else(|_| text.to_owned(), |number: u64| format!("{}ms", number * unit / SIXTH))
}
