#!/usr/bin/env bash
# bayesian-optimization 3.4.0: a search with an RBF kernel goes on with a Matérn one.
#
# `save_state` writes the kernel's settings and not its class, and `load_state` makes a
# Matérn kernel of them. One of nu = 0.5 comes back as it was, and the search proposes the
# point that it would have proposed. The settings of an RBF kernel are among those of a
# Matérn kernel, so it comes back as that of nu = 1.5, with no error, also where the search
# that loads was given the RBF kernel: the samples of its process are once differentiable in
# place of infinitely often, and it proposes another point.
#
# Command: findings/bayes_opt_resumed_kernel.sh
# Prints, and fails if it changes:
#   Matern nu=0.5 comes back as Matern nu=0.5; proposes the same point: True
#   RBF comes back as Matern nu=1.5; proposes the same point: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    bayesian-optimization==3.4.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat >"$folder/search.py" <<'PYTHON'
import sys
import warnings

import bayes_opt
from sklearn.gaussian_process import kernels

warnings.simplefilter("ignore")  # about lengths at their bounds


def new_search(kernel):
    space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    search = bayes_opt.BayesianOptimization(None, space, random_state=1, verbose=0)
    search.set_gp_params(kernel=kernel)
    return search


def name(kernel):
    # The package derives a class of its own from that of the kernel.
    is_matern = isinstance(kernel, kernels.Matern)
    return f"Matern nu={kernel.nu}" if is_matern else "RBF"


for kernel in (kernels.Matern(nu=0.5), kernels.RBF()):
    search = new_search(kernel)
    for _ in range(6):
        point = search.suggest()
        value = -((point["x"] - 0.3) ** 2) - 2 * (point["y"] - 0.6) ** 2
        search.register(point, value)
    search.save_state(sys.argv[1])
    resumed = new_search(kernel)
    resumed.load_state(sys.argv[1])
    before, after = name(search._gp.kernel), name(resumed._gp.kernel)
    same = search.suggest() == resumed.suggest()
    print(f"{before} comes back as {after}; proposes the same point: {same}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/search.py" "$folder/state.json")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
Matern nu=0.5 comes back as Matern nu=0.5; proposes the same point: True
RBF comes back as Matern nu=1.5; proposes the same point: False
EXPECTED
