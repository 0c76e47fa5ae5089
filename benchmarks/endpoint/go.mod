module kubesynth.io/benchmarks/endpoint

go 1.24
