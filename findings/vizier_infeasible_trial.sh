#!/usr/bin/env bash
# google-vizier-dev 0.1.24: one infeasible trial can send its GP bandit off the minimum.
#
# Trials may be completed as infeasible, as of a training that diverged, and the Gaussian-
# process bandit takes them. A quadratic in the unit square, its minimum 0 at (0.8, 0.5), is
# minimised to below 0.01 in 12 trials. With the fourth trial infeasible, all else the same,
# it is not, and the 12th trial is worse than the 6th. Given a large value in place of
# "infeasible" the search finds the minimum.
#
# Command: findings/vizier_infeasible_trial.sh
# Prints, and fails if it changes:
#   all feasible, below 0.01 in 12 trials: True
#   the fourth infeasible: False; the 12th worse than the 6th: True
#   the fourth given 1.0 in place of that: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    "google-vizier-dev[jax]==0.1.24.dev20261020102113" tfp-nightly==0.26.0.dev20261027 \
    jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 optax==0.2.8 equinox==0.13.8 jaxopt==0.8.5 \
    jaxtyping==0.3.11 numpy==2.4.6 protobuf==7.36.2 grpcio==1.85.1 sqlalchemy==2.1.9
cat >"$folder/search.py" <<'PYTHON'
import logging

from vizier import algorithms, pyvizier
from vizier._src.algorithms.designers import gp_bandit  # of GAUSSIAN_PROCESS_BANDIT

logging.disable(logging.WARNING)
problem = pyvizier.ProblemStatement()
for name in "xy":
    problem.search_space.root.add_float_param(name, 0.0, 1.0)
goal = pyvizier.ObjectiveMetricGoal.MINIMIZE
problem.metric_information.append(pyvizier.MetricInformation("value", goal=goal))


def minimise(fourth):
    """The values of 12 trials."""
    bandit = gp_bandit.VizierGPBandit.from_problem(problem, seed=1)
    values = []
    for number in range(1, 13):
        (suggestion,) = bandit.suggest(1)
        x, y = (suggestion.parameters[name].value for name in "xy")
        trial = suggestion.to_trial(number)
        values.append((x - 0.8) ** 2 + (y - 0.5) ** 2)
        if number == 4 and fourth == "infeasible":
            trial.complete(pyvizier.Measurement(), infeasibility_reason="diverged")
        else:
            value = fourth if number == 4 and fourth else values[-1]
            trial.complete(pyvizier.Measurement({"value": value}))
        bandit.update(algorithms.CompletedTrials([trial]), algorithms.ActiveTrials())
    return values


def found(values):
    return min(values) < 0.01


print("all feasible, below 0.01 in 12 trials:", found(minimise(None)))
values = minimise("infeasible")
worse = values[11] > values[5]
print(f"the fourth infeasible: {found(values)}; the 12th worse than the 6th: {worse}")
print("the fourth given 1.0 in place of that:", found(minimise(1.0)))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/search.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
all feasible, below 0.01 in 12 trials: True
the fourth infeasible: False; the 12th worse than the 6th: True
the fourth given 1.0 in place of that: True
EXPECTED
