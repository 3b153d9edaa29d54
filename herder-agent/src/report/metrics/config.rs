//! The families of the two configuration files.

use super::{
    Metrics,
    family::{Exposed, Family},
    making::{counter, gauge, plain},
};
use crate::report::ConfigInForce;
use prometheus::{IntCounter, Registry};
use std::time::SystemTime;

#[derive(Debug)]
pub(super) struct ConfigFamilies {
    info: Family<2>,
    last_successful: Family<0>,
    last_success: Family<0>,
    reloads: Family<1>,
    access_reloads: Family<1>,
    watched: Family<0>,
    watch_failures: IntCounter,
}

impl ConfigFamilies {
    pub(super) fn new(registry: &Registry, exposed: &mut Vec<Box<dyn Exposed>>) -> Self {
        let families = ConfigFamilies {
            info: gauge(
                exposed,
                "herder_config_info",
                "Always 1; its labels are the hash of the configuration file in force, and the log level.",
                ["hash", "log_level"],
            ),
            last_successful: gauge(
                exposed,
                "herder_config_last_reload_successful",
                "1 if the configuration file is in force as it was last read, 0 if it was rejected.",
                [],
            ),
            last_success: gauge(
                exposed,
                "herder_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read, in seconds since 1970.",
                [],
            ),
            reloads: counter(
                exposed,
                "herder_config_reloads_total",
                "Changed configurations that are in force (ok) or were rejected (error).",
                ["result"],
            ),
            access_reloads: counter(
                exposed,
                "herder_web_config_reloads_total",
                "Changes of the --web-config-file or of a file that it names, in force (ok) or rejected (error).",
                ["result"],
            ),
            watched: gauge(
                exposed,
                "herder_config_watched",
                "1 while inotify watches the configuration file, 0 while it is only read every 10 s or there is no file.",
                [],
            ),
            watch_failures: plain(
                registry,
                "herder_config_watch_failures_total",
                "Failed attempts to watch the configuration file.",
            ),
        };
        families.watched.set([], 0);
        for result in ["ok", "error"] {
            families.access_reloads.begin([result]);
            families.reloads.begin([result]);
        }
        families
    }
}

impl Metrics {
    pub(in crate::report) fn config_in_force(&self, config: &ConfigInForce, read: SystemTime) {
        let families = &self.families.config;
        families.info.set_only([&config.hash, config.log_level.as_str()], 1);
        families.last_successful.set([], 1);
        // A clock before 1970 is wrong anyway.
        let read = read.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        families.last_success.set([], read.as_secs());
    }

    pub(in crate::report) fn config_reload(&self, ok: bool) {
        let families = &self.families.config;
        families.reloads.add([if ok { "ok" } else { "error" }], 1);
        families.last_successful.set([], ok.into());
    }

    pub(in crate::report) fn access_reload(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.families.config.access_reloads.add([result], 1);
    }

    pub(in crate::report) fn config_watched(&self, watched: bool) {
        let families = &self.families.config;
        families.watched.set([], watched.into());
        families.watch_failures.inc_by(u64::from(!watched));
    }
}
