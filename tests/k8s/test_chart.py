"""The Helm chart: rendered by the real helm, judged by Kubernetes' own schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.k8s.tools import CHART, PLAIN, environment, helm, pod_specs, render, secrets_of

from psm.adapters.jetstream.roles import role
from psm.adapters.risk_metrics import ALERT_CODES
from psm.projections.schema.roles import LOGINS
from psm.workers.cli import build
from psm.workers.cli.itself.config import settings_schema
from psm.workers.process.config import load_settings
from psm.workers.process.settings import about

ANYWHERE = ("0.0.0.0", "::")
POSTGRES = ("--set", "postgres.existingSecret=psm-postgres", *PLAIN)
TWICE = ("--set", "nats.auth.passwordKey=b")
SIXTY_FIVE = ("--set", "worker.autoscaling.maxReplicas=65")
EVERYTHING = (
    "--set-json",
    json.dumps(
        {
            "image": {"digest": "sha256:" + "0" * 64},
            "imagePullSecrets": [{"name": "registry"}],
            "nats": {
                "url": "tls://nats.nats:4222",
                "auth": {"existingSecret": "psm-nats", "passwordKey": "pw"},
                "tls": {
                    "existingSecret": "psm-tls",
                    "allowPlain": False,
                    "certKey": "tls.crt",
                    "keyKey": "tls.key",
                },
            },
            "postgres": {"tls": {"existingSecret": "psm-postgres-ca", "allowPlain": False}},
            "scheduled": {
                "audit": {"enabled": True},
                "replicaAudit": {"enabled": True},
                "anchors": {"enabled": True, "existingClaim": "anchors", "existingSecret": "sign"},
            },
            "settings": {"PSM_SNAPSHOT_EVENTS": 1_000_000, "PSM_OTLP_ENDPOINT": "http://otel:4318"},
            "api": {
                "replicas": 1,
                "ingest": True,
                "hosts": ["psm.example"],
                "trustedProxies": ["10.9.0.0/16"],
                "accessFile": {"existingSecret": "psm-access"},
                "mtls": {"enabled": True, "existingSecret": "callers-ca"},
                "modeConfigMap": "psm-mode",
                "ingress": {
                    "enabled": True,
                    "host": "books.example",
                    "tlsSecret": "books-tls",
                    "className": "nginx",
                    "annotations": {"example.org/x": "y"},
                },
            },
            "marks": {"enabled": True},
            "risk": {"enabled": True},
            "networkPolicy": {"apiFrom": [{"podSelector": {}}], "mtlsFrom": [{"podSelector": {}}]},
            "listenAddress": "::",
            "podAnnotations": {"example.org/team": "books"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "money", "operator": "Exists"}],
            "serviceAccount": {
                "annotations": {"example.org/x": "y"},
                "partAnnotations": {"archive": {"example.org/z": "w"}},
            },
            "archive": {"affinity": {"nodeAffinity": {}}},
        }
    ),
)
ONE_USER = (
    "--set",
    "nats.auth.userPerPart=false,nats.auth.existingSecret=psm-nats",
    "--set",
    "nats.auth.user=psm,nats.auth.passwordKey=pw",
    "--set",
    "postgres.loginPerPart=false,postgres.key=address",
)
VARIANTS = pytest.mark.parametrize(
    "arguments",
    [(), EVERYTHING, ONE_USER, ("--set", "jobs.enabled=false,networkPolicy.enabled=false")],
    ids=["default", "everything", "one user", "least"],
)


def test_chart_passes_the_strict_linter() -> None:
    """helm itself has nothing to object to."""
    done = helm("lint", "--strict", str(CHART), *POSTGRES)
    assert done.returncode == 0, done.stdout + done.stderr


@VARIANTS
def test_every_manifest_is_valid_kubernetes(arguments: tuple[str, ...]) -> None:
    """Each manifest passes the strict schema of a recent Kubernetes."""
    manifests = render(*arguments)
    assert len(manifests) > 4
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_processes_are_all_there() -> None:
    """Everything twice and one may be drained; both jobs as hooks, each part its account."""
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in render()}
    for name in ("psm-api", "psm-worker", "psm-projector", "psm-analytics", "psm-archive"):
        spec = by_name["Deployment", name]["spec"]
        assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
        assert by_name["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1
        assert spec["template"]["spec"]["serviceAccountName"] == name
        assert by_name["ServiceAccount", name]["automountServiceAccountToken"] is False
    for name in ("psm-marks", "psm-risk"):  # only where they are wanted
        assert ("Deployment", name) not in by_name
    for name in ("psm-streams", "psm-migrate"):
        hooks = by_name["Job", name]["metadata"]["annotations"]
        assert hooks["helm.sh/hook"] == "pre-install,pre-upgrade"
        # What a hook needs must exist before the chart does.
        assert "serviceAccountName" not in by_name["Job", name]["spec"]["template"]["spec"]
    one = "replicas=1"
    parts = ("api", "worker", "projector", "analytics", "archive")
    alone = render("--set", ",".join(f"{part}.{one}" for part in parts))
    assert "PodDisruptionBudget" not in {manifest["kind"] for manifest in alone}


def test_workers_scale_without_being_told_their_partitions() -> None:
    """Any number of pods is one fleet, with time to hand over."""
    (worker,) = [
        manifest
        for manifest in render("--set", "worker.replicas=7")
        if manifest["metadata"]["name"] == "psm-worker" and manifest["kind"] == "Deployment"
    ]
    pod = worker["spec"]["template"]["spec"]
    assert worker["spec"]["replicas"] == 7
    assert "PSM_WORKER_PARTITIONS" not in {v["name"] for v in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] == 60


def test_alerts_are_off_by_default() -> None:
    """A cluster without the operator of Prometheus has no such kind."""
    assert "PrometheusRule" not in {manifest["kind"] for manifest in render()}
    chosen = "alerts.enabled=true,alerts.labels.release=prometheus"
    (rule,) = [m for m in render("--set", chosen) if m["kind"] == "PrometheusRule"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_alerts_of_the_engine_are_explained() -> None:
    """What the engine warns of stands in the runbook."""
    runbook = (CHART.parents[1] / "docs/runbook.md").read_text()
    for code in ALERT_CODES:
        assert f"| `{code}` |" in runbook


@VARIANTS
def test_pods_have_least_privilege(arguments: tuple[str, ...]) -> None:
    """No root, no token, no capabilities, nothing to write to, and no stray variables."""
    for name, pod in pod_specs(render(*arguments)).items():
        assert pod["automountServiceAccountToken"] is False, name
        # Else Kubernetes adds PSM_API_PORT and the like, and unknown PSM_* are errors.
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_services_are_probed() -> None:
    """Alive and ready are asked separately, on a port the container has."""
    for name, pod in pod_specs(render()).items():
        (container,) = pod["containers"]
        if "restartPolicy" in pod:
            assert "livenessProbe" not in container, name
            continue
        ports = {port["name"] for port in container["ports"]}
        serves = "http" in ports
        assert ports == ({"http", "metrics"} if serves else {"metrics"})
        assert container["livenessProbe"]["httpGet"] == {
            "path": "/health/live",
            "port": "http" if serves else "metrics",
        }
        # An API whose broker is away still answers reads.
        door = "/reads" if name.endswith("api") else ""
        assert container["readinessProbe"]["httpGet"]["path"] == f"/health/ready{door}"
        assert pod["terminationGracePeriodSeconds"] >= 30


@VARIANTS
def test_every_container_starts_with_valid_settings(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """Settings accepts each container's environment as it is, and its command exists."""
    for name, pod in pod_specs(render(*arguments)).items():
        (container,) = pod["containers"]
        env = environment(container)
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for variable, value in env.items():
            if variable.endswith("_FILE"):
                assert str(Path(value).parent) in mounted
                env[variable] = str(tmp_path / "secret")
                (tmp_path / "secret").write_text("postgresql://u:p@h/d")
        settings = load_settings(env)
        assert settings.partitions == 64
        assert settings.env == "production"
        assert settings.http_host not in ANYWHERE or "10.1.2.3" in settings.http_hosts, name
        if "command" not in container:
            build().parse_args(container["args"])


def test_pods_hold_only_the_secrets_they_use() -> None:
    """The streams job never sees the database, the migration never sees NATS."""
    secrets = {
        name: {secret for mounted in secrets_of(pod).values() for secret, _ in mounted}
        for name, pod in pod_specs(render(*EVERYTHING)).items()
    }
    broker, database = {"psm-nats", "psm-tls"}, {"psm-postgres", "psm-postgres-ca"}
    assert secrets == {
        "psm-worker": broker | database,  # it compares the log with the heads there
        "psm-streams": broker,
        "psm-projector": broker | database,
        "psm-analytics": broker | database,
        "psm-archive": broker | database,
        "psm-marks": broker,
        "psm-risk": broker,
        "psm-api": broker | database | {"psm-access", "callers-ca"},
        "psm-migrate": database,
        "psm-audit": broker | database,
        "psm-replica-audit": broker,
        "psm-anchors": broker | {"sign"},
        "psm-test": set(),
    }


def test_each_part_is_a_user_of_its_own() -> None:
    """Its user, its inbox and its login; of the secrets a pod mounts its own keys only."""
    found = {}
    for name, pod in pod_specs(render(*EVERYTHING)).items():
        env = environment(pod["containers"][0])
        keys = {
            file
            for volume, mounted in secrets_of(pod).items()
            if volume in {"nats-auth", "postgres"}
            for _, file in mounted
        }
        user = env.get("PSM_NATS_USER")
        found[name.removeprefix("psm-")] = (user, keys)
        if user is not None:
            assert env["PSM_NATS_INBOX_PREFIX"] == role(user).inbox_prefix
            assert env["PSM_NATS_PASSWORD_FILE"] == f"/etc/psm/nats-auth/{user}.pw"
            assert f"{user}.pw" in keys
        named = {Path(value).name for key, value in env.items() if key.endswith("_DSN_FILE")}
        assert named == {key for key in keys if key.endswith(".dsn")}
    # `operator` and `importer` are no pods: they may have logins that people make.
    logins = {f"{part}.dsn" for part in LOGINS if part not in ("operator", "importer")}
    assert found == {
        "worker": ("worker", {"worker.pw", "worker.dsn"}),
        "projector": ("projector", {"projector.pw", "projector.dsn"}),
        "analytics": ("projector", {"projector.pw", "projector.dsn"}),
        "archive": ("archiver", {"archiver.pw", "archiver.dsn"}),
        "marks": ("marks", {"marks.pw"}),
        "risk": ("risk", {"risk.pw"}),
        "api": ("ingest", {"ingest.pw", "api.dsn"}),
        "streams": ("streams", {"streams.pw"}),
        "migrate": (None, {"owner.dsn", *logins}),
        "audit": ("operator", {"operator.pw", "operator.dsn"}),
        "replica-audit": ("operator", {"operator.pw"}),
        "anchors": ("auditor", {"auditor.pw"}),
        "test": (None, set()),
    }
    (reads,) = pod_specs(render(*EVERYTHING, "--set", "api.ingest=false"))["psm-api"]["containers"]
    assert {"name": "PSM_NATS_USER", "value": "api"} in reads["env"]
    (migrate,) = pod_specs(render())["psm-migrate"]["containers"]
    assert migrate["args"] == ["migrate", "up", "--roles"]


def test_each_part_may_have_a_secret_of_its_own() -> None:
    """Then RBAC on secrets separates the parts; the owner's is the migration's alone."""
    given = (
        *(
            "--set",
            "nats.auth.existingSecret=n,nats.auth.passwordKey=pw,nats.auth.secretPerPart=true",
        ),
        *("--set", "postgres.existingSecret=p,postgres.secretPerPart=true"),
    )
    pods = pod_specs(render(*given))
    assert secrets_of(pods["psm-archive"]) == {
        "nats-auth": [("n-archiver", "archiver.pw")],
        "postgres": [("p-archiver", "archiver.dsn")],
    }
    owners = [name for name, pod in pods.items() if "p-owner" in str(secrets_of(pod))]
    assert owners == ["psm-migrate"]
    assert ("p-worker", "worker.dsn") in secrets_of(pods["psm-migrate"])["postgres"]


def test_postgres_is_spoken_to_by_tls() -> None:
    """Where a CA is given, every pod that has an address checks name and certificate."""
    for name, pod in pod_specs(render(*EVERYTHING)).items():
        (container,) = pod["containers"]
        env = environment(container)
        if "POSTGRES_DSN_FILE" in env:
            assert env["PGSSLMODE"] == "verify-full", name
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert str(Path(env["PGSSLROOTCERT"]).parent) in mounted


def test_jobs_by_the_clock() -> None:
    """Off by default; each is a CronJob that is not tried again, and whose absence is said."""
    assert "CronJob" not in {m["kind"] for m in render()}
    manifests = render(*EVERYTHING, "--set", "alerts.enabled=true")
    jobs = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "CronJob"}
    assert jobs.keys() == {"psm-audit", "psm-replica-audit", "psm-anchors"}
    for job in jobs.values():
        assert (job["concurrencyPolicy"], job["timeZone"]) == ("Forbid", "Etc/UTC")
        assert job["jobTemplate"]["spec"]["backoffLimit"] == 0
    (rule,) = [m for m in manifests if m["kind"] == "PrometheusRule"]
    alerts = {
        a["alert"]: a["expr"] for g in rule["spec"]["groups"] for a in g["rules"] if "alert" in a
    }
    for job in jobs:
        assert f'cronjob="{job}"' in alerts["PsmScheduledJobLate"]
    assert 'job_name=~"psm-(' in alerts["PsmScheduledJobFailed"]


def test_the_test_asks_and_changes_nothing() -> None:
    """`helm test` is one pod without users, whose script is Python and only reads."""
    (pod,) = [m for m in render() if m["kind"] == "Pod"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    script, *urls = container["args"]
    compile(script, "test", "exec")
    assert urls == [
        "http://psm-api:8004/health/ready/reads",
        "http://psm-worker:9090/health/ready",
    ]


def test_the_ingress_is_one_of_the_names() -> None:
    """A request by the ingress's name is answered, by TLS where a secret is given."""
    manifests = render(*EVERYTHING)
    (ingress,) = [m for m in manifests if m["kind"] == "Ingress"]
    assert ingress["spec"]["tls"] == [{"hosts": ["books.example"], "secretName": "books-tls"}]
    (archive,) = [
        m
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) == ("ServiceAccount", "psm-archive")
    ]
    assert archive["metadata"]["annotations"] == {"example.org/x": "y", "example.org/z": "w"}
    assert pod_specs(manifests)["psm-archive"]["affinity"] == {"nodeAffinity": {}}


def test_certificates_of_callers_have_a_port_of_their_own() -> None:
    """Proxies reach it by the Service, by the policy, and by what the API is told."""
    manifests = {(m["kind"], m["metadata"]["name"]): m for m in render(*EVERYTHING)}
    (container,) = manifests["Deployment", "psm-api"]["spec"]["template"]["spec"]["containers"]
    env = environment(container)
    assert env["PSM_HTTP_MTLS_PORT"] == "8005"
    assert env["PSM_HTTP_CLIENT_CA_FILE"] == "/etc/psm/callers/ca.crt"
    assert env["PSM_ACCESS_FILE"] == "/etc/psm/access/access.toml"
    assert env["PSM_HTTP_MODE_FILE"] == "/etc/psm/mode/mode"
    assert {"name": "mtls", "containerPort": 8005} in container["ports"]
    service = manifests["Service", "psm-api"]["spec"]["ports"]
    assert {"name": "mtls", "port": 8005, "targetPort": "mtls"} in service
    allowed = manifests["NetworkPolicy", "psm-api"]["spec"]["ingress"]
    assert {"ports": [{"port": "mtls"}], "from": [{"podSelector": {}}]} in allowed
    assert "8005" not in json.dumps([m for m in render() if m["kind"] != "ConfigMap"])


def test_one_user_for_all_is_possible() -> None:
    """Where somebody else decides who may do what: one key of each secret, for every pod."""
    for pod in pod_specs(render(*ONE_USER)).values():
        env = environment(pod["containers"][0])
        assert env.get("PSM_NATS_USER", "psm") == "psm"
        assert "PSM_NATS_INBOX_PREFIX" not in env
        assert env.get("PSM_NATS_PASSWORD_FILE", "/etc/psm/nats-auth/pw") == (
            "/etc/psm/nats-auth/pw"
        )
        assert env.get("POSTGRES_DSN_FILE", "/etc/psm/postgres/address") == (
            "/etc/psm/postgres/address"
        )
    (migrate,) = pod_specs(render(*ONE_USER))["psm-migrate"]["containers"]
    assert migrate["args"] == ["migrate", "up"]


@pytest.mark.parametrize(
    ("key", "variable"),
    [("credsKey", "PSM_NATS_CREDS_FILE"), ("nkeySeedKey", "PSM_NATS_NKEY_SEED_FILE")],
)
def test_credentials_are_one_file_per_user(key: str, variable: str) -> None:
    """With JWTs and nkeys likewise."""
    auth = f"nats.auth.existingSecret=psm-nats,nats.auth.{key}=secret"
    (container,) = pod_specs(render("--set", auth))["psm-worker"]["containers"]
    env = environment(container)
    assert env[variable] == "/etc/psm/nats-auth/worker.secret"
    assert "PSM_NATS_USER" not in env


def test_overrides_arrive() -> None:
    """What an operator sets is what the containers get, large numbers unharmed."""
    pods = pod_specs(render(*EVERYTHING))
    (container,) = pods["psm-api"]["containers"]
    env = environment(container)
    assert container["image"] == "portfolio-state-manager@sha256:" + "0" * 64
    assert env["PSM_SNAPSHOT_EVENTS"] == "1000000"
    assert env["PSM_INGEST"] == "true"
    assert env["PSM_HTTP_HOSTS"] == (
        "psm-api,psm-api.default,psm-api.default.svc,psm-api.default.svc.cluster.local,"
        "psm.example,books.example,10.1.2.3"
    )
    assert env["PSM_HTTP_TRUSTED_PROXIES"] == "10.9.0.0/16"
    assert env["PSM_NATS_PASSWORD_FILE"] == "/etc/psm/nats-auth/ingest.pw"
    assert env["PSM_NATS_CERT_FILE"] == "/etc/psm/nats-tls/tls.crt"
    (container,) = pod_specs(render("--set-string", "image.tag=1.2.3"))["psm-worker"]["containers"]
    assert container["image"] == "portfolio-state-manager:1.2.3"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (PLAIN, "postgres.existingSecret"),
        ((*POSTGRES, "--set", "nats.tls.allowPlain=false"), "nats.tls.existingSecret is required"),
        (
            (*POSTGRES, "--set", "postgres.tls.allowPlain=false"),
            "postgres.tls.existingSecret is required",
        ),
        ((*POSTGRES, "--set", "api.ingress.enabled=true"), "api.ingress.host is required"),
        (
            (*POSTGRES, "--set", "scheduled.anchors.enabled=true"),
            "scheduled.anchors.existingClaim is required",
        ),
        ((*POSTGRES, "--set", "api.mtls.enabled=true"), "api.mtls needs api.trustedProxies"),
        ((*POSTGRES, "--set", "workers.replicas=2"), "workers"),
        ((*POSTGRES, "--set", "worker.replicas=0"), "replicas"),
        ((*POSTGRES, "--set", "worker.replicas=null"), "missing property 'replicas'"),
        ((*POSTGRES, "--set", "settings.PSM_HTTP_PROT=1"), "PSM_HTTP_PROT"),
        ((*POSTGRES, "--set", "settings.PSM_REPLICAS=2"), "PSM_REPLICAS"),
        ((*POSTGRES, "--set", "settings.PSM_NATS_PASSWORD=x"), "PSM_NATS_PASSWORD"),
        ((*POSTGRES, "--set", "nats.url=nats://u:p@h"), "url"),
        ((*POSTGRES, "--set", "api.replicas=0"), "replicas"),
        ((*POSTGRES, "--set", "api.hosts[0]=https://psm.example"), "hosts"),
        (
            (*POSTGRES, *ONE_USER, "--set", "nats.auth.user="),
            "nats.auth.passwordKey needs nats.auth.user",
        ),
        (
            (*POSTGRES, *ONE_USER, "--set", "nats.auth.userPerPart=true"),
            "nats.auth.user names one user",
        ),
        (
            (*POSTGRES, "--set", "nats.auth.existingSecret=s,nats.auth.tokenKey=k"),
            "a token is no user",
        ),
        ((*POSTGRES, "--set", "nats.auth.existingSecret=s"), "needs credsKey"),
        ((*POSTGRES, "--set", "settings.PSM_ANALYTICS=false"), "say analytics.enabled instead"),
        (
            (*POSTGRES, "--set", "nats.auth.existingSecret=s,nats.auth.credsKey=a", *TWICE),
            "more than one of",
        ),
        ((*POSTGRES, "--set", "worker.replicas=65"), "65 workers for 64 partitions"),
        (
            (*POSTGRES, "--set", "worker.autoscaling.enabled=true", *SIXTY_FIVE),
            "65 workers for 64 partitions",
        ),
    ],
)
def test_wrong_values_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    """A misspelt, impossible or secret value fails before anything is installed."""
    done = helm("template", "psm", str(CHART), *arguments)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_who_scales_owns_the_number() -> None:
    """Where something else sets the replicas, an upgrade does not fight with it."""
    scaled = ("--set", "worker.autoscaling.enabled=true,api.autoscaling.enabled=true")
    found = {(m["kind"], m["metadata"]["name"]): m for m in render(*scaled)}
    for name in ("psm-worker", "psm-api"):
        assert "replicas" not in found["Deployment", name]["spec"]
    assert found["Deployment", "psm-worker"]["spec"]["strategy"]["type"] == "RollingUpdate"
    scaler = found["ScaledObject", "psm-worker"]["spec"]
    assert (scaler["minReplicaCount"], scaler["maxReplicaCount"]) == (2, 8)
    assert 'namespace="default", pod=~"psm-worker-.*"' in scaler["triggers"][0]["metadata"]["query"]
    assert found["HorizontalPodAutoscaler", "psm-api"]["spec"]["minReplicas"] == 2


@pytest.mark.parametrize("name", ["n", "on", "yes", "null", "1234", "1e3"])
def test_names_of_secrets_stay_texts(name: str) -> None:
    """YAML takes such a name for something else, and the API server then refuses the pod."""
    given = (
        *("--set-string", f"postgres.existingSecret={name},nats.auth.existingSecret={name}"),
        *("--set-string", f"nats.tls.existingSecret={name},postgres.tls.existingSecret={name}"),
        *("--set-string", f"nats.auth.passwordKey=k,api.bootstrap.existingSecret={name}"),
    )
    found: set[str] = set()
    for pod in pod_specs(render(*given)).values():
        found.update(secret for mounted in secrets_of(pod).values() for secret, _ in mounted)
    assert found == {name}


def test_pods_reach_names_and_servers_alone() -> None:
    """Each may go where its part goes, the jobs too; nobody may come to a job."""
    policies = {
        m["metadata"]["labels"]["app.kubernetes.io/component"]: m["spec"]
        for m in render("--set", "risk.enabled=true")
        if m["kind"] == "NetworkPolicy"
    }
    ports = {
        component: {port["port"] for rule in spec["egress"] for port in rule["ports"]}
        for component, spec in policies.items()
    }
    assert ports["worker"] == {53, 4222, 8222, 5432}
    assert ports["risk"] == ports["streams"] == {53, 4222, 8222}
    assert ports["migrate"] == {53, 5432}
    assert policies["migrate"]["ingress"] == policies["streams"]["ingress"] == []
    (http, metrics) = policies["api"]["ingress"]
    assert http["ports"] == [{"port": "http"}]
    assert metrics["ports"] == [{"port": "metrics"}]
    off = render("--set", "networkPolicy.egress.enabled=false")
    assert all("egress" not in m["spec"] for m in off if m["kind"] == "NetworkPolicy")


def test_what_a_house_adds_arrives() -> None:
    """Labels, a priority, variables, volumes and manifests of its own."""
    given = {
        "podLabels": {"team": "books"},
        "priorityClassName": "money",
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "house-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/house"}],
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-more"},
            }
        ],
    }
    manifests = render("--set-json", json.dumps(given))
    assert any(m["metadata"]["name"] == "psm-more" for m in manifests)
    for pod in pod_specs(manifests).values():
        (container,) = pod["containers"]
        assert environment(container)["TZ"] == "UTC"
        assert pod["priorityClassName"] == "money"
        assert {"name": "ca", "mountPath": "/etc/house"} in container["volumeMounts"]


def test_the_examples_are_of_this_chart_and_of_each_other() -> None:
    """PSM's values render as they are; the servers beside it are what these values speak of."""
    folder = CHART.parent / "examples"
    done = helm("template", "psm", str(CHART), "--values", str(folder / "psm-values.yaml"))
    assert done.returncode == 0, done.stderr
    pods = pod_specs([m for m in yaml.safe_load_all(done.stdout) if m])
    assert ("psm-nats-worker", "worker.password") in secrets_of(pods["psm-worker"])["nats-auth"]
    nats = yaml.safe_load((folder / "nats-values.yaml").read_text())["config"]
    assert nats["cluster"]["replicas"] == 3
    assert nats["jetstream"]["merge"]["sync_interval"] == "always"
    assert nats["nats"]["tls"]["merge"]["min_version"] == "1.3"
    database = yaml.safe_load((folder / "postgres-cluster.yaml").read_text())
    certificate = secrets_of(pods["psm-worker"])["postgres-tls"]
    assert certificate == [(f"{database['metadata']['name']}-ca", "")]
    application = yaml.safe_load((folder / "argocd.yaml").read_text())["spec"]["source"]
    assert CHART.is_relative_to(CHART.parents[1] / application["path"])
    assert (CHART / application["helm"]["valueFiles"][0]).resolve().exists()


def test_schema_of_settings_is_up_to_date() -> None:
    """The chart's schema knows exactly the settings of today (`psm config schema` prints them)."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["settings"] == json.loads(json.dumps(settings_schema()))
    assert _closed(schema) == []


def test_defaults_are_known_settings() -> None:
    """Each variable the values and templates name exists."""
    known = {field.env for field in about()}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values["settings"]) <= known


def _closed(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of objects with named properties that accept others too."""
    open_ones = []
    if "properties" in schema and schema.get("additionalProperties") is not False:
        open_ones.append(path)
    for name, inner in schema.get("properties", {}).items():
        open_ones += _closed(inner, f"{path}.{name}")
    return open_ones
