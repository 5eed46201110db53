#!/bin/sh -eu
# The secrets that the manifests refer to and do not hold; or let your cluster's own keeper of secrets make them.
# Each value is read from a file of that name in the folder ./secrets, so that none stands in a history of commands.
# Where Kafka or MLflow lets everybody in (dev), leave tamiz-kafka or the secrets of MLflow out; of tamiz-receivers, whomever nobody is to be told by.
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
    --from-file=teams-webhook=secrets/teams-webhook \
    --from-file=opsgenie-api-key=secrets/opsgenie-api-key \
    --from-file=pagerduty-routing-key=secrets/pagerduty-routing-key \
    --from-file=webhook-url=secrets/webhook-url \
    --from-file=webhook-secret=secrets/webhook-secret \
    --from-file=smtp-username=secrets/smtp-username \
    --from-file=smtp-password=secrets/smtp-password
# Two users of MLflow: one that only reads, for all pods, and one that writes, for the retrainer and the page. Each by
# name and password, or, where a proxy before MLflow asks for it, by a bearer token. Never both: the programs refuse that.
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
# No secret: the authority that signed MLflow's certificate, for staging and production (TAMIZ_MLFLOW_CAFILE).
kubectl --namespace "$namespace" create configmap tamiz-mlflow-ca \
    --from-file=ca.crt=secrets/mlflow-ca.crt
