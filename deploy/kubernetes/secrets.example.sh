#!/bin/sh -eu
# The secrets that the manifests refer to and do not hold; or let your cluster's own keeper of secrets make them.
# Each value is read from a file of that name in the folder ./secrets, so that none stands in a history of commands.
# Where Kafka or MLflow lets everybody in (dev), leave tamiz-kafka or tamiz-mlflow out; of tamiz-receivers, whomever nobody is to be told by.
namespace=${1:?usage: secrets.example.sh NAMESPACE}
# Users are added by `TAMIZ_WEB_USERS_FILE=secrets/web-users tamiz users add NAME --role ROLE`: each person by their own name
# with `read` or `approve`, and `prometheus` with `scrape`, whose token goes to your Prometheus and to nobody else.
kubectl --namespace "$namespace" create secret generic tamiz-users \
    --from-file=web-users=secrets/web-users
kubectl --namespace "$namespace" create secret generic tamiz-kafka \
    --from-file=username=secrets/kafka-username \
    --from-file=password=secrets/kafka-password
kubectl --namespace "$namespace" create secret generic tamiz-receivers \
    --from-file=slack-webhook=secrets/slack-webhook \
    --from-file=webhook-url=secrets/webhook-url \
    --from-file=webhook-secret=secrets/webhook-secret \
    --from-file=smtp-username=secrets/smtp-username \
    --from-file=smtp-password=secrets/smtp-password
kubectl --namespace "$namespace" create secret generic tamiz-mlflow \
    --from-file=username=secrets/mlflow-username \
    --from-file=password=secrets/mlflow-password
# No secret: the authority that signed MLflow's certificate, for staging and production (TAMIZ_MLFLOW_CAFILE).
kubectl --namespace "$namespace" create configmap tamiz-mlflow-ca \
    --from-file=ca.crt=secrets/mlflow-ca.crt
