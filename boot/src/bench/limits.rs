//! Which figure of the bare machine stands beside which operation.

use crate::bench::row::Row;

/// Beginnings of names, and the raw limit of what has such a name. The first that fits counts.
const LIMITS: [(&str, &str); 12] = [
    ("raw_", ""),
    ("yield", "raw_switch"),
    ("spawn_join", "raw_switch"),
    ("skynet", "raw_switch"),
    ("chan_pingpong", "raw_switch"),
    ("mutex_contended", "raw_switch"),
    ("sema_handoff", "raw_switch"),
    ("cond_handoff", "raw_switch"),
    ("select_2", "raw_switch"),
    ("chan_buffered", "ref_atomic_add"),
    ("stw_", "raw_broadcast"),
    ("heap_mix", "raw_linked_list"),
];

/// Fills in the raw limits, from rows of the same run.
///
/// A limit may depend on the number of CPUs, and then stands beside the rows of as many; else it was measured on one. For a
/// latency the same value of the limit counts: the median beside a median.
pub fn put_beside(rows: &mut [Row]) {
    let found: Vec<Option<f64>> = rows.iter().map(|row| limit(row, rows)).collect();
    for (row, raw) in rows.iter_mut().zip(found) {
        row.raw = raw;
    }
}

fn limit(row: &Row, rows: &[Row]) -> Option<f64> {
    let (_, raw) = LIMITS.iter().find(|(start, _)| row.name.starts_with(start))?;
    let wanted = match row.name.split_once('.') {
        Some((_, part)) => format!("{raw}.{part}"),
        None => (*raw).to_owned(),
    };
    let of = |procs: u32| rows.iter().find(|other| other.name == wanted && other.procs == procs);
    of(row.procs).or_else(|| of(1)).filter(|limit| limit.unit == row.unit).map(|limit| limit.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    #[test]
    fn limits_stand_beside_what_they_limit() {
        let mut rows = [
            row("raw_switch", 1, 20.0),
            row("yield_many", 2, 80.0),
            row("stw_gomaxprocs_tight.p50", 2, 9.0),
            row("stw_gomaxprocs_tight.p50", 4, 9.0),
            row("raw_broadcast.p50", 2, 3.0),
            row("raw_broadcast.max", 4, 7.0),
            row("sleep_1ms.p50", 1, 5.0),
        ];
        put_beside(&mut rows);
        let raw: Vec<Option<f64>> = rows.iter().map(|row| row.raw).collect();
        assert_eq!(raw, [None, Some(20.0), Some(3.0), None, None, None, None]);
    }

    #[test]
    fn a_limit_in_another_unit_is_none() {
        let mut rows = [row("raw_switch", 1, 20.0), row("yield", 1, 80.0)];
        rows[0].unit = "bytes".to_owned();
        put_beside(&mut rows);
        assert_eq!(rows[1].raw, None);
    }
}
