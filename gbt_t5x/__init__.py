"""Learned optimizer hyper-parameters for T5X.

Lichtarge, Alberti and Kumar, "Simple and Effective Gradient-Based Tuning of
Sequence-to-Sequence Models". Symbols of the paper and their names here:

    θ_t, Ω      parameters, optimizer           train_state, GuidedOptimizer.base
    λ_t         hyper-parameters, as α and β1   state.hyperparams (before activation)
    L_X, L_H    training and guidance loss      model.loss_fn on either batch
    ĝ_t         ∇_λ L_H(θ_t+1)                  GuidedOptimizer.hypergradient
    Ω̂, η̂        meta-optimizer, its rate        optax Adam, meta_learning_rate

Modules are imported by name, as T5X's are: `from gbt_t5x import trainer`.
"""
