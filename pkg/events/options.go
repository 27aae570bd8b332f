package events

// Options bound what a Decoder accepts. A zero field takes its default.
type Options struct {
	MaxRecord     int // bytes of a record or body; default 1 MiB
	MaxEvents     int // events of a record, counting what OTLP histograms fan out to; default 65,536
	MaxDepth      int // nesting of an event's JSON, at most 64; default 16
	MaxLabels     int // labels of a metric; default 64
	MaxAttributes int // attributes of a span or log; default 128 (OpenTelemetry's own default)
	MaxName       int // bytes of a metric, label or attribute name; default 256
	MaxValue      int // bytes of a label value, span name, service, route, peer or help text; default 4 KiB
	MaxAttribute  int // bytes of an attribute value; default 64 KiB (a log body is bounded by MaxRecord alone)
	MaxBuckets    int // buckets of one side of an exponential histogram; default 16,384
	MaxBounds     int // bounds of an OTLP explicit-bucket histogram, quantiles of a summary; default 1,000

	// ResourceLabels says which OTLP resource attributes become labels of a metric, and under which name;
	// default DefaultResourceLabels. The key service.name is always the label service.
	ResourceLabels map[string]string
}

// DefaultOptions returns the contract's limits.
func DefaultOptions() Options {
	return Options{
		MaxRecord: 1 << 20, MaxEvents: 65_536, MaxDepth: 16, MaxLabels: 64, MaxAttributes: 128,
		MaxName: 256, MaxValue: 4 << 10, MaxAttribute: 64 << 10, MaxBuckets: 16_384, MaxBounds: 1_000,
		ResourceLabels: DefaultResourceLabels(),
	}
}

// DefaultResourceLabels names the resource attributes that tell one producer's series from another's. What
// is left out (SDK name, process arguments, cloud account…) describes the producer and would only make
// every series longer.
func DefaultResourceLabels() map[string]string {
	return map[string]string{
		"service.name":                "service",
		"service.namespace":           "service_namespace",
		"service.instance.id":         "instance",
		"service.version":             "service_version",
		"deployment.environment":      "deployment_environment",
		"deployment.environment.name": "deployment_environment",
		"host.name":                   "host_name",
		"container.name":              "container_name",
		"k8s.cluster.name":            "k8s_cluster_name",
		"k8s.namespace.name":          "k8s_namespace_name",
		"k8s.node.name":               "k8s_node_name",
		"k8s.pod.name":                "k8s_pod_name",
		"k8s.container.name":          "k8s_container_name",
		"cloud.region":                "cloud_region",
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	for _, f := range []struct{ have, def *int }{
		{&o.MaxRecord, &d.MaxRecord}, {&o.MaxEvents, &d.MaxEvents}, {&o.MaxDepth, &d.MaxDepth},
		{&o.MaxLabels, &d.MaxLabels}, {&o.MaxAttributes, &d.MaxAttributes}, {&o.MaxName, &d.MaxName},
		{&o.MaxValue, &d.MaxValue}, {&o.MaxAttribute, &d.MaxAttribute}, {&o.MaxBuckets, &d.MaxBuckets},
		{&o.MaxBounds, &d.MaxBounds},
	} {
		if *f.have <= 0 {
			*f.have = *f.def
		}
	}
	o.MaxDepth = min(o.MaxDepth, 64)
	if o.ResourceLabels == nil {
		o.ResourceLabels = d.ResourceLabels
	}
	return o
}
