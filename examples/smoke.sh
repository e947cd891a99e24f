#!/usr/bin/env bash
# Runs one script twice through your own k6-operator, with the image that you have and with the new
# one, and compares verdicts, metrics and requests.
#
#   examples/smoke.sh OLD_IMAGE NEW_IMAGE script.js [module.js …]
#
# The script and the modules that it imports from its own folder go into a ConfigMap, with a small
# module around the script that prints its figures at the end. Everything is deleted afterwards; the
# logs stay in a folder that is named at the end. Exits with 0 when both images agree, with 1 when
# they do not, with 2 when one of the runs did not come to an end.
#
# From the environment:
#   NAMESPACE    of the runs (that of kubectl's context)
#   KIND         TestRun, or K6 for an operator up to 0.0.18 (TestRun)
#   PARALLELISM  runners of each run (2)
#   ARGUMENTS    of `k6 run`, for example '--vus 10 --duration 30s' (the options of the script)
#   TIMEOUT      seconds for each run (600)
#   TOLERANCE    how far requests and iterations may be apart, in percent (10)
set -euo pipefail

if [ "$#" -lt 3 ]; then
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
  exit 2
fi
images=("$1" "$2")
script=$3
files=("${@:3}")
kind=${KIND:-TestRun}
parallelism=${PARALLELISM:-2}
arguments=${ARGUMENTS:-}
timeout=${TIMEOUT:-600}
tolerance=${TOLERANCE:-10}
kubectl=(kubectl)
if [ -n "${NAMESPACE:-}" ]; then kubectl+=(--namespace "$NAMESPACE"); fi
logs=$(mktemp -d)
run=volley-smoke-$(date +%s)

# shellcheck disable=SC2317,SC2329 # the trap calls it
cleanup() {
  "${kubectl[@]}" delete "$kind" "$run-old" "$run-new" --ignore-not-found --wait=false >/dev/null || true
  "${kubectl[@]}" delete configmap "$run" --ignore-not-found >/dev/null || true
}
trap cleanup EXIT

# A module around the script: the same exports, and its own handleSummary, which prints a line for
# each metric: name, type, count.
around() {
  local name
  name=$(basename "$script")
  echo "export * from './$name';"
  if grep -Eq 'export default|as default' "$script"; then echo "export { default } from './$name';"; fi
  cat <<'EOF'
export function handleSummary(data) {
  const lines = [];
  for (const name of Object.keys(data.metrics)) {
    const metric = data.metrics[name];
    const values = metric.values;
    const count = metric.type === 'rate' ? values.passes : values.count;
    lines.push('SMOKE|' + name + '|' + metric.type + '|' + (count === undefined ? '' : count));
  }
  return { stdout: '\n' + lines.join('\n') + '\n' };
}
EOF
}

resource() {
  cat <<EOF
apiVersion: k6.io/v1alpha1
kind: $kind
metadata:
  name: $1
spec:
  parallelism: $parallelism
  script:
    configMap:
      name: $run
      file: smoke.js
  arguments: "$arguments"
  # Some early operators put a program of that name before every command unless told not to.
  scuttle:
    enabled: "false"
  runner:
    image: $2
    securityContext:
      runAsNonRoot: true
EOF
  # For clusters that refuse pods without it.
  if [ "$kind" = TestRun ]; then
    cat <<'EOF'
      seccompProfile:
        type: RuntimeDefault
    containerSecurityContext:
      allowPrivilegeEscalation: false
      capabilities:
        drop: [ALL]
EOF
  fi
}

# The Jobs of runners that have ended; their names end in a number.
ended() {
  "${kubectl[@]}" get jobs -l "k6_cr=$1" \
    -o jsonpath='{range .items[*]}{.metadata.name}{"|"}{.status.succeeded}{"|"}{.status.failed}{"\n"}{end}' \
    | awk -F'|' -v prefix="$1-" \
      'index($1, prefix) == 1 && substr($1, length(prefix) + 1) ~ /^[0-9]+$/ && $2 + $3 > 0 { print $1 }'
}

# Runs the script with an image: exit codes into $1.codes, metrics into $1.metrics.
one() {
  local side=$1 image=$2 name=$run-$1 end=$((SECONDS + timeout)) job
  echo "$side: $image"
  resource "$name" "$image" | "${kubectl[@]}" apply -f - >/dev/null || return 2
  until [ "$(ended "$name" | wc -l)" -ge "$parallelism" ]; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "$name has not ended after $timeout s" >&2
      return 2
    fi
    sleep 2
  done
  for job in $(ended "$name"); do
    "${kubectl[@]}" logs "job/$job" -c k6 >"$logs/$job.log" || return 2
  done
  "${kubectl[@]}" get pods -l "k6_cr=$name,runner=true" \
    -o jsonpath='{range .items[*]}{.status.containerStatuses[?(@.name=="k6")].state.terminated.exitCode}{"\n"}{end}' \
    | sort -n >"$logs/$side.codes"
  # The counts of all runners together.
  sed -n 's/\r$//; s/^SMOKE|//p' "$logs/$name"-*.log \
    | awk -F'|' '{ metric = $1 "|" $2; seen[metric]; sum[metric] += $3 }
        END { for (metric in seen) print metric "|" sum[metric] }' | sort >"$logs/$side.metrics"
  if ! [ -s "$logs/$side.metrics" ]; then
    echo "$name has printed no figures, see $logs" >&2
    return 2
  fi
}

different=0
differ() {
  different=1
  echo "DIFFERENT $1"
}

count() {
  awk -F'|' -v name="$2" '$1 == name { print $3; found = 1 } END { if (!found) print 0 }' "$logs/$1.metrics"
}

mkdir "$logs/scripts"
around >"$logs/scripts/smoke.js"
cp "${files[@]}" "$logs/scripts/"
"${kubectl[@]}" create configmap "$run" --from-file="$logs/scripts" >/dev/null
one old "${images[0]}" || exit 2
one new "${images[1]}" || exit 2

if cmp -s "$logs/old.codes" "$logs/new.codes"; then
  echo "same verdict: exit codes $(paste -sd' ' "$logs/new.codes")"
else
  differ "verdict: exit codes $(paste -sd' ' "$logs/old.codes") and $(paste -sd' ' "$logs/new.codes")"
fi

for side in old new; do cut -d'|' -f1,2 "$logs/$side.metrics" | LC_ALL=C sort >"$logs/$side.names"; done
if cmp -s "$logs/old.names" "$logs/new.names"; then
  echo "same metrics: $(wc -l <"$logs/new.names")"
else
  differ 'metrics: < only of the old image, > only of the new one'
  diff "$logs/old.names" "$logs/new.names" | grep '^[<>]' || true
fi

for metric in http_reqs iterations checks; do
  old=$(count old "$metric") new=$(count new "$metric")
  # shellcheck disable=SC2016 # the $ are awk's
  if awk -v a="$old" -v b="$new" -v percent="$tolerance" \
    'BEGIN { d = a > b ? a - b : b - a; m = a > b ? a : b; exit !(d * 100 <= m * percent) }'; then
    echo "about the same $metric: $old and $new"
  else
    differ "$metric: $old and $new, over $tolerance % apart"
  fi
done
echo "logs: $logs"
exit "$different"
