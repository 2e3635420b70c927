# Steering: proposes points. Built by `containers/build`, whose build context holds the program.
#
# The base has bash and the core utilities, because the command lines of iDDS call `/bin/bash -c`.
# debian:bookworm-slim
ARG BASE=docker.io/library/debian@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818
FROM ${BASE}

LABEL org.opencontainers.image.title="steering" \
      org.opencontainers.image.description="Proposes the next points of a hyperparameter search; stands in for hpogrid" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY steering /usr/local/bin/steering
# Command lines written for `hpogrid generate` work as they are. PanDA binds the directory of a job at /srv.
RUN ln -s steering /usr/local/bin/hpogrid && mkdir -p /srv/workDir && chmod 1777 /srv/workDir

USER 1000:1000
WORKDIR /srv/workDir
CMD ["steering", "--help"]
