//! One fleet in several processes: what each gets, and what their reports are together.

use imlink_swarm::{Config, Report};

/// Splits `whole` into `processes` fleets that together do the same.
pub(super) fn split(whole: &Config, processes: u32) -> Vec<Config> {
    let mut first = whole.first;
    let mut left = whole.devices;
    (0..processes)
        .map(|index| {
            let devices = left / (processes - index);
            let share = f64::from(devices) / f64::from(whole.devices.max(1));
            let ledger = whole.ledger.as_ref().map(|path| match processes {
                1 => path.clone(),
                _ => {
                    let mut name = path.as_os_str().to_owned();
                    name.push(format!(".{}", index + 1));
                    name.into()
                }
            });
            let part = Config {
                first,
                devices,
                connect_rate: whole.connect_rate * share,
                event_rate: whole.event_rate * share,
                churn: whole.churn * share,
                ledger,
                ..whole.clone()
            };
            first = first.saturating_add(devices);
            left -= devices;
            part
        })
        .collect()
}

/// The report of all parts. Counts are sums; of times and latencies the largest part's is taken.
pub(super) fn merge(parts: Vec<Report>) -> Report {
    let is_attached = parts.iter().all(|part| part.all_attached_s.is_some());
    let mut all = parts.into_iter().fold(Report::default(), |mut all, part| {
        all.devices += part.devices;
        all.elapsed_s = all.elapsed_s.max(part.elapsed_s);
        all.all_attached_s = Some(all.all_attached_s.unwrap_or(0.0).max(part.all_attached_s.unwrap_or(0.0)));
        all.sessions += part.sessions;
        all.failures += part.failures;
        for (error, count) in part.errors {
            *all.errors.entry(error).or_default() += count;
        }
        all.messages += part.messages;
        all.redelivered += part.redelivered;
        all.calls += part.calls;
        all.events_published += part.events_published;
        all.events_stored += part.events_stored;
        all.events_dropped += part.events_dropped;
        let (of_all, of_part) = (&mut all.event_latency, part.event_latency);
        of_all.p50_ms = of_all.p50_ms.max(of_part.p50_ms);
        of_all.p99_ms = of_all.p99_ms.max(of_part.p99_ms);
        of_all.p999_ms = of_all.p999_ms.max(of_part.p999_ms);
        of_all.max_ms = of_all.max_ms.max(of_part.max_ms);
        all
    });
    all.all_attached_s = all.all_attached_s.filter(|_| is_attached);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_the_whole() {
        let whole =
            Config { devices: 10, first: 5, event_rate: 100.0, ledger: Some("ledger.csv".into()), ..Config::default() };
        let shares = split(&whole, 3);
        assert_eq!(shares.iter().map(|share| share.devices).sum::<u32>(), 10);
        let ids: Vec<_> =
            shares.iter().flat_map(|share| (0..share.devices).map(|index| share.device_id(index))).collect();
        assert_eq!(ids, (0..10).map(|index| whole.device_id(index)).collect::<Vec<_>>());
        assert!((shares.iter().map(|share| share.event_rate).sum::<f64>() - 100.0).abs() < 1e-9);
        assert_eq!(shares[2].ledger.as_deref(), Some("ledger.csv.3".as_ref()));
        assert_eq!(split(&whole, 1), [whole]);
    }

    #[test]
    fn all_are_attached_only_when_each_part_is() {
        let part = |all_attached_s| Report { devices: 1, messages: 2, all_attached_s, ..Report::default() };
        let both = merge(vec![part(Some(1.0)), part(Some(3.0))]);
        assert_eq!((both.devices, both.messages, both.all_attached_s), (2, 4, Some(3.0)));
        assert_eq!(merge(vec![part(Some(1.0)), part(None)]).all_attached_s, None);
    }
}
