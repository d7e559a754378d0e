//! A page of metrics, written family by family, so that no more than one of them is held in parts.

use prometheus::{
    TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// The labels of a sample.
#[derive(Clone, Default)]
pub struct Labels(Vec<LabelPair>);

impl Labels {
    /// Names and values.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Labels(pairs.iter().map(pair).collect())
    }
}

/// What has been written.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// A family that only grows.
    pub fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let samples = samples.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = Metric::from_label(labels.0);
            metric.set_counter(counter);
            metric
        });
        self.family(MetricType::COUNTER, name, help, samples.collect());
    }

    /// A family that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let samples = samples.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_label(labels.0);
            metric.set_gauge(gauge);
            metric
        });
        self.family(MetricType::GAUGE, name, help, samples.collect());
    }

    /// Without samples it is not there at all.
    fn family(&mut self, kind: MetricType, name: &str, help: &str, samples: Vec<Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples);
        // The one error is a family without samples.
        let _ = TextEncoder::new().encode_utf8(&[family], &mut self.0);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let mut page = Page::default();
        page.gauge("none", "Never there.", []);
        let odd = Labels::of(&[("vip", "[::1]:80"), ("path", "a\"b\\c\nd")]);
        page.counter("weir_x_total", "Counts\nx.", [(odd, 9_007_199_254_740_991.0), (Labels::default(), 0.0)]);
        page.gauge("weir_y", "Is y.", [(Labels::default(), 0.5)]);
        assert_eq!(
            page.finish(),
            "# HELP weir_x_total Counts\\nx.\n# TYPE weir_x_total counter\n\
             weir_x_total{vip=\"[::1]:80\",path=\"a\\\"b\\\\c\\nd\"} 9007199254740991\nweir_x_total 0\n\
             # HELP weir_y Is y.\n# TYPE weir_y gauge\nweir_y 0.5\n"
        );
    }
}
