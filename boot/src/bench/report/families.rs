//! Figures that are shown together.

use crate::bench::row::Row;

/// A family of figures.
#[derive(Debug)]
pub struct Family {
    /// Its name, also on the command line of a mark and in the name of a file.
    pub name: &'static str,
    /// How the names of its figures begin.
    members: &'static [&'static str],
}

/// All families.
pub const FAMILIES: [Family; 8] = [
    Family { name: "goroutines", members: &["yield", "spawn_", "skynet"] },
    Family { name: "channels", members: &["chan_", "select_"] },
    Family { name: "locks", members: &["mutex_", "sema_", "cond_"] },
    Family { name: "stops", members: &["stw_", "raw_broadcast"] },
    Family { name: "latencies", members: &["sleep_", "preempt_"] },
    Family { name: "memory", members: &["parked_", "heap_", "raw_linked_list"] },
    Family { name: "contention", members: &["contended.", "passed."] },
    Family { name: "machine", members: &["ref_", "raw_switch", "raw_ipi"] },
];

impl Family {
    /// The figures of this family, in the order in which they are given.
    pub fn of<'r>(&self, rows: &[&'r Row]) -> Vec<&'r Row> {
        let is_member = |row: &&&Row| self.members.iter().any(|start| row.name.starts_with(start));
        rows.iter().filter(is_member).copied().collect()
    }
}

/// The modes of some figures, each once.
pub fn modes(rows: &[Row]) -> Vec<&str> {
    each_once(rows.iter().map(|row| row.mode.as_str()))
}

/// The units of some figures, each once.
pub fn units<'r>(rows: &[&'r Row]) -> Vec<&'r str> {
    each_once(rows.iter().map(|row| row.unit.as_str()))
}

fn each_once<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut found = Vec::new();
    for text in texts {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    #[test]
    fn each_operation_is_of_one_family() {
        for name in [
            "yield",
            "yield_many",
            "spawn_join",
            "skynet",
            "chan_pingpong",
            "chan_buffered",
            "select_2",
            "mutex_contended",
            "sema_handoff",
            "cond_handoff",
            "stw_gomaxprocs_tight.p50",
            "sleep_1ms.p99",
            "preempt_latency.max",
            "parked_memory.bytes",
            "heap_mix",
            "ref_loop",
            "raw_switch",
            "raw_ipi.p50",
            "raw_broadcast.p50",
            "raw_linked_list",
        ] {
            let row = row(name, 1, 1.0);
            let of = FAMILIES.iter().filter(|family| !family.of(&[&row]).is_empty());
            assert_eq!(of.count(), 1, "{name}");
        }
    }

    #[test]
    fn modes_and_units_come_once() {
        let rows = [row("a", 1, 1.0), row("b", 2, 1.0), row("c", 1, 1.0)];
        assert_eq!(modes(&rows), ["smp 1", "smp 2"]);
        assert_eq!(units(&rows.iter().collect::<Vec<_>>()), ["ns/op"]);
    }
}
