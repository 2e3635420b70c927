# Evaluation: trains a model for one point. Built by `containers/build`, whose build context holds the program and `cache/`, what
# `evaluation setup` fetches: ONNX Runtime for the CPU, or, with `--cuda`, its build for GPUs and the libraries of CUDA.
# debian:bookworm-slim
ARG BASE=docker.io/library/debian@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818
FROM ${BASE}

LABEL org.opencontainers.image.title="evaluation" \
      org.opencontainers.image.description="Trains a model through ONNX Runtime for one point of a hyperparameter search" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY evaluation /usr/local/bin/evaluation
COPY cache /opt/cache
RUN chmod -R a+rX /opt/cache && mkdir -p /srv/workDir && chmod 1777 /srv/workDir

# The driver's libraries come from outside, by the container runtime; the image itself is only read.
ENV XDG_CACHE_HOME=/opt/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /srv/workDir
CMD ["evaluation", "--help"]
