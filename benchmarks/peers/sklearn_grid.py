"""scikit-learn: `GridSearchCV` over `MLPClassifier` with SGD, as near to a task as it comes.

It differs: `random_state` draws its own initial values (Glorot's, biases too) and its own order of examples, for the
full batch as well; an epoch ends with a smaller minibatch, so W3 takes 34 epochs of 29 steps (986, not 1000). One fold:
fitted on the task's examples, scored on its evaluation points; no refit.
"""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from benchmarks.peers import descendants
from benchmarks.task import Task


def sweep(task: Task, log: str, num_jobs: int = 2) -> Callable[[], np.ndarray]:
    """Returns the function that searches a task's grid and returns the losses in scikit-learn's order."""
    num_train = len(task.inputs)
    batch_size = task.table.shape[-1] or num_train
    net = MLPClassifier(
        (task.kernels[0].shape[-1],),
        activation="tanh" if task.workload == "W1" else "relu",
        solver="sgd",
        alpha=0.0,
        batch_size=batch_size,
        max_iter=max(1, task.num_steps // -(-num_train // batch_size)),
        tol=0.0,
        n_iter_no_change=task.num_steps,
        nesterovs_momentum=False,
    )
    seeds = list(range(task.num_seeds))
    grids = [
        {"learning_rate_init": [rate], "momentum": [momentum], "random_state": seeds}
        for rate, momentum in task.hyperparameters.tolist()
    ]
    inputs, labels = np.concatenate([task.inputs, task.eval_inputs]), np.concatenate([task.labels, task.eval_labels])
    fold = (np.arange(num_train), np.arange(num_train, len(inputs)))
    search = GridSearchCV(net, grids, scoring="neg_log_loss", cv=[fold], refit=False, n_jobs=num_jobs)

    def run() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it has no other way to take a number of steps
            search.fit(inputs, labels)
        return -search.cv_results_["mean_test_score"]

    run()
    return descendants.logged(run, log)
