"""The settings that control planes and workers of one deployment share, from the environment (`TAILPLANE_<FIELD>`).

A duration is a number of seconds, a number with a unit (`500ms`, `5s`, `10m`, `24h`, `7d`) or ISO 8601.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tailplane.broker.connection import check_url
from tailplane.broker.redis_cluster import check_cluster_url
from tailplane.broker.tenant_labels import MOST as TENANTS_NAMED

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,200}")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _parse_duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(**{_UNITS[match[2] or "s"]: float(match[1])})
    return value


def none_if_empty(value: object) -> object:
    """Take an empty variable for one that is not set."""
    return None if value == "" else value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration), Field(gt=timedelta())]


def _check_metrics_token(token: SecretStr | None) -> SecretStr | None:
    if token is not None:
        text = token.get_secret_value()
        if text != "none" and not _TOKEN.fullmatch(text):
            raise ValueError("a token has 16-200 characters of letters, digits and -._~+/=; or say none")
    return token


class DeploymentSettings(BaseSettings):
    """What must be the same in every program of a deployment, and how each logs."""

    # What does not fit is not repeated: a URL that is refused has its password all the same.
    model_config = SettingsConfigDict(env_prefix="TAILPLANE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(check_url)] = Field("redis://127.0.0.1:6379/0", repr=False)
    """Where Redis or Valkey is: redis://, rediss://, unix://; behind Sentinel `redis+sentinel://host,host,host/SERVICE/0`,
    or rediss+sentinel:// for TLS, with `?sentinel_password=` (and `sentinel_username`) where the sentinels want one of
    their own. May hold a password, so it is never shown as it is. The default is a local server."""

    streams_url: Annotated[str, AfterValidator(check_cluster_url)] | None = Field(None, repr=False)
    """Where the tasks' records and streams are: a Redis Cluster, by some of its nodes:
    `redis+cluster://[user:password@]host[:port],host...`, or rediss+cluster:// for TLS. The queue stays where
    `redis_url` says. None: everything is there, which is enough as long as one server has the memory and the time."""

    prefix: str = Field("tailplane", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """What every key begins with: deployments with different prefixes can share one Redis."""

    start_within: Duration = timedelta(hours=24)
    """How long a task may be queued before it expires. A day rides out a night without workers."""

    retention: Duration = timedelta(hours=24)
    """How long a task's record and stream are kept after it ended: a day lets one look into yesterday's failures."""

    dead_letter_retention: Duration = timedelta(days=7)
    """How long the record and the stream of a failed task are kept, and so for how long it can be run again; where
    `retention` is longer, that. A week lets one come back from a holiday to what failed; until then it takes memory."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe messages to log."""

    log_format: Literal["console", "json"] | None = None
    """`console` for people, `json` for collectors; None: `console` where standard error is a terminal."""

    metrics_host: str = "127.0.0.1"
    """The address on which probes and metrics are answered. The default is reached from this machine only; in a
    container it is 0.0.0.0, and `metrics_token` has to be set."""

    metrics_port: Annotated[int | None, BeforeValidator(none_if_empty)] = Field(None, ge=1, le=65535)
    """The port for `/livez`, `/readyz` and `/metrics`; None, or empty: none is opened. 9464 is the customary one. Of
    the processes of `tailplane worker --processes N` the first one takes this port, each other one the next."""

    metrics_token: Annotated[SecretStr | None, BeforeValidator(none_if_empty), AfterValidator(_check_metrics_token)] = (
        None
    )
    """What must come as bearer with a request for `/metrics`, at least 16 characters; probes need nothing. The word
    `none`: everybody who reaches the port may look. None, or empty: as `none` where `metrics_host` is a loopback
    address; elsewhere the process does not start."""

    metrics_tenants: int = Field(TENANTS_NAMED, ge=0, le=10_000)
    """How many tenants the metrics of one program name, beside `default`: those that it sees first. The rest is told as
    the tenant `other`. Each is some time series for each workflow that it runs, in each control plane and worker."""
