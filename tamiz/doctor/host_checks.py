"""Checks of exposed connections, the registry's champion, and this machine. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from schemas.configuration.kafka_config import Secret
from schemas.configuration.notification_settings import URLS
from schemas.configuration.settings import Settings
from schemas.security.hosts import is_loopback
from tamiz.doctor.check_result import Finding, not_checked, ok, problem, warning
from tamiz.doctor.facts import MachineFacts, RegistryFacts, Unknown

GIB = 1 << 30


def kafka_exposure(settings: Settings) -> Iterator[Finding]:
    """Unencrypted connections to Kafka stay on this machine."""
    servers = str(settings.bootstrap).split(",")
    beyond = [s.strip() for s in servers if not is_loopback(s.strip().rpartition(":")[0].strip("[]"))]
    if settings.security_protocol.endswith("PLAINTEXT") and beyond:
        also = ", including the password" if settings.security_protocol.startswith("SASL") else ""
        seen = f"{settings.security_protocol} to {', '.join(beyond)}: the network can read and change it{also}"
        yield problem("Kafka's connection", seen, "set TAMIZ_SECURITY_PROTOCOL to SASL_SSL or SSL")
    else:
        yield ok("Kafka's connection", settings.security_protocol + ("" if beyond else ", on this machine only"))


def registry_exposure(settings: Settings) -> Iterator[Finding]:
    """Unencrypted connections to the registry stay on this machine."""
    uri = urlsplit(settings.tracking_uri)
    if uri.scheme == "http" and not is_loopback(uri.hostname or ""):
        seen = f"http to {uri.hostname}: the network can change the model"
        has_secret = bool(settings.mlflow_password or settings.mlflow_token)  # they are not part of the address
        yield (problem if has_secret else warning)("the registry's connection", seen, "serve MLflow over https")
    else:
        yield ok("the registry's connection", uri.scheme)


def web_exposure(settings: Settings, machine: MachineFacts) -> Iterator[Finding]:
    """Web pages that other hosts can reach require authentication."""
    check, users = "pages", settings.web_users_file
    if machine.pages_refused:
        yield problem(
            check, machine.pages_refused, "add users with `tamiz users add`; workers do not start without them"
        )
    elif users is not None and not machine.users_private:
        yield warning(check, f"other users can read {users}, which holds hashed tokens", f"chmod 600 {users}")
    else:
        yield ok(check, f"web_host is {settings.web_host}" + (", with authentication" if users else ""))


def channels_exposure(settings: Settings) -> Iterator[Finding]:
    """Notifications leave this machine encrypted."""
    for name in URLS:
        value = getattr(settings, name) or "https:"
        url = urlsplit(value.reveal() if isinstance(value, Secret) else value)
        if url.scheme != "https" and not is_loopback(url.hostname or ""):
            yield problem(name, "notifications are sent over plain http", "use its https address")
    if settings.smtp_host and settings.smtp_security == "none" and not is_loopback(settings.smtp_host):
        yield problem("smtp_security", "mail is sent unencrypted", "set TAMIZ_SMTP_SECURITY to starttls or tls")


def champion(settings: Settings, registry: RegistryFacts) -> Iterator[Finding]:
    """The registry has a champion with a recorded promotion, and its bundle can be loaded and fits the data set."""
    if registry.champion is None:
        yield problem("champion", f"{settings.model_name} has none", "`tamiz train FILE` makes one")
        return
    if registry.inconsistency:
        yield problem("promotion", registry.inconsistency, "promote the right version with `tamiz models promote`")
    else:
        yield ok("promotion", f"version {registry.champion} has a recorded promotion")
    if isinstance(registry.dataset, Unknown):
        yield problem(
            "champion", f"version {registry.champion} cannot be loaded: {registry.dataset.reason}", "train again"
        )
    else:
        yield ok("champion", f"version {registry.champion} can be loaded and fits the data set {registry.dataset}")


def state_folder(settings: Settings, machine: MachineFacts) -> Iterator[Finding]:
    """The state folder is private and its disk has free space."""
    where = str(settings.state_dir)
    if machine.state_exists and not machine.state_private:
        yield warning("permissions of the state folder", f"other users can enter {where}", f"chmod 700 {where}")
    else:
        yield ok("permissions of the state folder", where + ("" if machine.state_exists else " does not exist yet"))
    if isinstance(machine.free_bytes, Unknown):
        yield not_checked("disk space of the state folder", machine.free_bytes.reason)
        return
    seen = f"{machine.free_bytes / GIB:,.1f} GiB free"
    if machine.free_bytes < GIB // 10:
        yield problem("disk space of the state folder", seen, "free disk space: models cannot be downloaded")
    elif machine.free_bytes < GIB:
        yield warning("disk space of the state folder", seen, "free disk space before it is full")
    else:
        yield ok("disk space of the state folder", seen)


def libraries(settings: Settings, machine: MachineFacts) -> Iterator[Finding]:
    """The installed libraries meet Tamiz' requirements."""
    if isinstance(machine.outdated, Unknown):
        yield not_checked("libraries", machine.outdated.reason)
    elif machine.outdated:
        yield problem("libraries", "; ".join(machine.outdated), "install from requirements.lock, as `make setup` does")
    else:
        yield ok("libraries", "versions meet the requirements")
