//! What a process measures, for whoever collects it: every metric is listed in [`docs/observability.md`].
//!
//! Counters are handles that a shell keeps, so that counting is one atomic addition; what a machine knows anyway is
//! looked at when somebody asks. The crate is `prometheus-client`, which is the Prometheus project's own: nothing in it
//! is global, so that two services in one process, as in tests, do not count for each other.
//!
//! [`docs/observability.md`]: ../../docs/observability.md

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};
use tokio::runtime::RuntimeMetrics;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// A gauge of a time in seconds.
pub type SecondsGauge = Gauge<f64, AtomicU64>;

/// What every metric of this project begins with.
const PREFIX: &str = "handover";

/// How long something takes that is over in milliseconds if all is well, and in seconds if not: bounds of buckets.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Labels of which there are few, by their names.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A counter for each value of one label.
pub type Counters = Family<Labels<1>, Counter>;

/// A gauge for each value of one label.
pub type Gauges = Family<Labels<1>, Gauge>;

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// Those that every process has: who it is, and what it takes of its computer.
    pub fn new(service: &'static str, cluster: Name, name: Name) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            registry.register_collector(Box::new(Runtime(runtime.metrics())));
        }
        let who = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service", service.to_owned()),
            ("cluster", cluster.to_string()),
            ("name", name.to_string()),
        ];
        let mut metrics = Metrics(registry);
        let build_info: Family<Vec<(&'static str, String)>, Gauge> = Family::default();
        build_info.get_or_create(&who).set(1);
        metrics.add("build_info", "Which process this is", build_info);
        metrics
    }

    /// Adds a metric, which is exported as `handover_NAME`, a counter as `handover_NAME_total`.
    pub fn add<M: Metric + Clone + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        let of_project = self.0.sub_registry_with_prefix(PREFIX);
        of_project.register(name, help, metric.clone());
        metric
    }

    /// Adds a metric under a name that others have for it as well.
    pub(crate) fn add_common<M: Metric + Clone + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Adds a counter.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.add(name, help, Counter::default())
    }

    /// Adds a counter for each value of a label. Those of `values` are there from the beginning, at zero: whoever looks
    /// for an increase does not see one where there was nothing before.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Counters {
        let counters = self.add(name, help, Counters::default());
        for value in values {
            drop(counters.get_or_create(&[(label, value)]));
        }
        counters
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// Adds a gauge for each value of a label.
    pub fn gauges(&mut self, name: &'static str, help: &'static str) -> Gauges {
        self.add(name, help, Gauges::default())
    }

    /// Adds a histogram of times in seconds.
    pub fn seconds(&mut self, name: &'static str, help: &'static str) -> Histogram {
        self.add(name, help, of_seconds())
    }

    /// All of them, as the text that collectors read.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// A histogram of times in seconds.
pub(crate) fn of_seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// A number as gauges have it.
pub fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sets a counter to a total that is counted elsewhere.
pub fn set_total(counter: &Counter, total: u64) {
    counter.inner().store(total, std::sync::atomic::Ordering::Relaxed);
}

/// What the operating system says of this process, under the names that Prometheus' own libraries use.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A process that cannot read of itself has nothing to say, and goes on with its work.
        let Ok(seen) = Seen::read() else { return Ok(()) };
        let mut put = |name, help, metric_type, metric: &dyn Encode| {
            metric.encode_into(encoder.encode_descriptor(name, help, None, metric_type)?)
        };
        let counter = ConstCounter::new(seen.cpu_seconds);
        put("process_cpu_seconds", "Processor time used.", MetricType::Counter, &counter)?;
        let gauges = [
            ("process_resident_memory_bytes", "Memory held.", seen.resident),
            ("process_virtual_memory_bytes", "Address space.", seen.virtual_bytes),
            ("process_threads", "Threads.", seen.threads),
            ("process_open_fds", "Open file descriptors.", seen.open_files),
            ("process_max_fds", "How many there may be.", seen.open_files_max),
            ("process_start_time_seconds", "When it started, since the Unix epoch.", seen.started),
        ];
        for (name, help, value) in gauges {
            put(name, help, MetricType::Gauge, &ConstGauge::new(value))?;
        }
        Ok(())
    }
}

/// What the runtime says of itself, which carries out all tasks of this process.
#[derive(Debug)]
struct Runtime(RuntimeMetrics);

impl Collector for Runtime {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let workers = self.0.num_workers();
        let busy: Duration = (0..workers).map(|worker| self.0.worker_total_busy_duration(worker)).sum();
        let busy = ConstCounter::new(busy.as_secs_f64());
        let described = "Time for which workers had something to do.";
        busy.encode(encoder.encode_descriptor(
            "tokio_busy_seconds",
            described,
            None,
            MetricType::Counter,
        )?)?;
        for (name, help, value) in [
            ("tokio_workers", "Threads that carry out tasks.", workers),
            ("tokio_alive_tasks", "Tasks that have not ended.", self.0.num_alive_tasks()),
            ("tokio_global_queue_depth", "Tasks that wait for a worker.", self.0.global_queue_depth()),
        ] {
            let gauge = ConstGauge::new(value as f64);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// [`EncodeMetric`] in a form that can be passed by reference, whatever is encoded.
trait Encode {
    fn encode_into(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode_into(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }
}

struct Seen {
    cpu_seconds: f64,
    resident: f64,
    virtual_bytes: f64,
    threads: f64,
    open_files: f64,
    open_files_max: f64,
    started: f64,
}

impl Seen {
    #[allow(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
    fn read() -> procfs::ProcResult<Seen> {
        use procfs::process::LimitValue;
        let me = procfs::process::Process::myself()?;
        let (stat, ticks) = (me.stat()?, procfs::ticks_per_second() as f64);
        let open_files_max = match me.limits()?.max_open_files.soft_limit {
            LimitValue::Value(max) => max as f64,
            LimitValue::Unlimited => f64::INFINITY,
        };
        Ok(Seen {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident: (stat.rss * procfs::page_size()) as f64,
            virtual_bytes: stat.vsize as f64,
            threads: stat.num_threads as f64,
            open_files: me.fd_count()? as f64,
            open_files_max,
            started: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new("gateway", "test".parse().unwrap(), "gateway-1".parse().unwrap())
    }

    #[test]
    fn metrics_have_the_prefix_of_the_project_and_counters_end_in_total() {
        let mut metrics = metrics();
        let drinks = metrics.counters("drinks", "Drinks served", "kind", &["tea", "coffee"]);
        drinks.get_or_create(&[("kind", "tea")]).inc_by(3);
        set_total(&metrics.counter("guests", "Guests"), 7);
        metrics.seconds("wait_seconds", "Time until served").observe(0.3);
        let text = metrics.text().unwrap();
        for line in [
            "handover_drinks_total{kind=\"tea\"} 3",
            "handover_drinks_total{kind=\"coffee\"} 0",
            "handover_guests_total 7",
            "handover_wait_seconds_bucket{le=\"0.5\"} 1",
            "cluster=\"test\"",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_runtime_tells_what_it_has_to_do() {
        let text = metrics().text().unwrap();
        for line in ["tokio_workers 1.0", "tokio_alive_tasks 0.0", "tokio_global_queue_depth 0.0"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("tokio_busy_seconds_total "), "{text}");
    }

    #[test]
    fn a_process_tells_what_it_takes() {
        let text = metrics().text().unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_threads") >= 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!((0.0..86_400.0).contains(&(now.as_secs_f64() - value("process_start_time_seconds"))));
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
