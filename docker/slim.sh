#!/bin/sh
# Takes out of the image's environment what kubesynth never loads, then compiles the rest and proves
# that it still loads. Measured on CPython 3.11, x86-64: 391 MB before, about 180 MB after.
#
#   slim.sh ENVIRONMENT
set -eu
environment=$1
packages=$(echo "$environment"/lib/python3*/site-packages)
cd "$packages"

# Arrow: Flight (an RPC of its own), C++ headers, Cython sources, tests, and further copies of its
# libraries under the names that linkers want. Substrait stays: pyarrow's core is linked to it.
rm -rf pyarrow/include pyarrow/src pyarrow/tests
rm -f pyarrow/*flight* pyarrow/_pyarrow_cpp_tests* pyarrow/libarrow_python*.so \
    pyarrow/libarrow_python*.so.*.*.*
find pyarrow -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' | xargs rm -f

# Kubernetes: the operator makes its own requests through the asyncio client's ApiClient. Not needed
# are the synchronous client's models and both clients' methods for each call.
find kubernetes/client/models kubernetes/client/api kubernetes/aio/client/api \
    -name '[a-z]*.py' -delete

# Symbols that only debuggers read.
find . \( -name '*.so' -o -name '*.so.*' \) -exec strip --strip-unneeded {} +

# The client loads a model on its first use, and none is used.
"$environment/bin/python" -m compileall -q -x 'kubernetes/aio/client/models/' .

"$environment/bin/python" - <<'PYTHON'
import aiohttp, jinja2, kopf, kubernetes.aio.client, kubernetes.aio.config
import google.protobuf.descriptor_pb2, grpc.aio
import jsonschema, msgspec, openai, prometheus_client, pydantic, rich, uvloop, xxhash, yaml
import pyarrow, pyarrow.compute, pyarrow.csv, pyarrow.dataset, pyarrow.fs, pyarrow.json
import pyarrow.parquet as parquet

kubernetes.aio.client.ApiClient, kubernetes.aio.client.Configuration
table = pyarrow.table({"text": ["one", "two"]})
for compression in ("snappy", "zstd"):
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, compression=compression)
    assert parquet.read_table(pyarrow.BufferReader(sink.getvalue())) == table
PYTHON
