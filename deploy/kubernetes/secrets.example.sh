#!/bin/sh -eu
# Creates the secrets that the manifests refer to. Your cluster's secret manager can create them instead.
# Each value is read from a file of that name in the folder ./secrets, so that none is in the shell history.
# If Kafka or MLflow needs no credentials (dev), leave out tamiz-kafka or the secrets of MLflow; of tamiz-channels, unused channels.
namespace=${1:?usage: secrets.example.sh NAMESPACE}
# Users are added by `TAMIZ_WEB_USERS_FILE=secrets/web-users tamiz users add NAME --role ROLE`: each person with a name
# and the role `read` or `approve`, and `prometheus` with `scrape`, whose token goes only to your Prometheus.
kubectl --namespace "$namespace" create secret generic tamiz-users \
    --from-file=web-users=secrets/web-users
kubectl --namespace "$namespace" create secret generic tamiz-kafka \
    --from-file=username=secrets/kafka-username \
    --from-file=password=secrets/kafka-password
kubectl --namespace "$namespace" create secret generic tamiz-channels \
    --from-file=slack-webhook=secrets/slack-webhook \
    --from-file=teams-webhook=secrets/teams-webhook \
    --from-file=opsgenie-api-key=secrets/opsgenie-api-key \
    --from-file=pagerduty-routing-key=secrets/pagerduty-routing-key \
    --from-file=webhook-url=secrets/webhook-url \
    --from-file=webhook-secret=secrets/webhook-secret \
    --from-file=smtp-username=secrets/smtp-username \
    --from-file=smtp-password=secrets/smtp-password
# Two users of MLflow: a read-only one for all pods, and one with write access for the retrainer and the page. Each has name and
# password, or a bearer token if a proxy before MLflow requires it. The programs refuse both together.
if [ -f secrets/mlflow-read-token ]; then
    kubectl --namespace "$namespace" create secret generic tamiz-mlflow-read \
        --from-file=token=secrets/mlflow-read-token
else
    kubectl --namespace "$namespace" create secret generic tamiz-mlflow-read \
        --from-file=username=secrets/mlflow-read-username \
        --from-file=password=secrets/mlflow-read-password
fi
if [ -f secrets/mlflow-write-token ]; then
    kubectl --namespace "$namespace" create secret generic tamiz-mlflow-write \
        --from-file=token=secrets/mlflow-write-token
else
    kubectl --namespace "$namespace" create secret generic tamiz-mlflow-write \
        --from-file=username=secrets/mlflow-write-username \
        --from-file=password=secrets/mlflow-write-password
fi
# Not secret: the authority that signed MLflow's certificate, for staging and production (TAMIZ_MLFLOW_CAFILE).
kubectl --namespace "$namespace" create configmap tamiz-mlflow-ca \
    --from-file=ca.crt=secrets/mlflow-ca.crt
