"""The exit codes of every command: what each means, and which error or outcome of a run becomes which.

A Kubernetes job (or a person) retries as the third column says; a retry is the same command again.

code  name            means                                                                    retry?
0     DONE            every run has finished, or what was asked for was printed                -
1     FAILED          some runs failed (not finite, divergence, processes lost too often, a    after a look at
                      bug), the cluster was lost, or what was checked is not in order          the log
2     USAGE           the command, the config, the data or a right is wrong, or no cluster     no
                      answers; a person must correct it. The same code whether the driver
                      or a worker found it
70    BUG             an error that the command does not know: a bug; the message names a     no
                      file with the details
75    STORE_GIVEN_UP  the store did not answer for `give_up_s`; what was committed is safe     yes
76    SUPERSEDED      a newer command holds the runs; a retry would displace it                no
77    BUDGET_SPENT    a budget of the experiment is spent (hours, worker-hours, cost); what    no
                      was committed is safe, the same command with more of it continues
130   INTERRUPTED     a signal; what was committed is safe                                     yes

Of several runs with different codes the command reports the first of 130, 77, 76, 75, 2, 1. The first four say that
the command ended early, so its other runs are not final. 2 goes before 1: a refused run needs a person, and a 1, which
some schedulers retry, must not hide it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_darts.errors import (
    ClusterError,
    ClusterLost,
    ConfigError,
    GenotypeError,
    NonFiniteAlphas,
    RankFailed,
    RankLost,
    RayDartsError,
    StoreDenied,
    StoreUnavailable,
    Superseded,
    SweepCrashed,
)

DONE, FAILED, USAGE, BUG, STORE_GIVEN_UP, SUPERSEDED, BUDGET_SPENT, INTERRUPTED = 0, 1, 2, 70, 75, 76, 77, 130

_OF_ERRORS: tuple[tuple[type[RayDartsError], int], ...] = (
    (Superseded, SUPERSEDED),
    (StoreUnavailable, STORE_GIVEN_UP),
    (StoreDenied, USAGE),
    (ConfigError, USAGE),
    (NonFiniteAlphas, FAILED),
    (GenotypeError, USAGE),
    (ClusterLost, FAILED),
    (SweepCrashed, FAILED),
    (RankLost, FAILED),
    (RankFailed, FAILED),
    (ClusterError, USAGE),
)

_OF_OUTCOMES = {
    "interrupted": INTERRUPTED,
    "budget_spent": BUDGET_SPENT,
    "superseded": SUPERSEDED,
    "store_given_up": STORE_GIVEN_UP,
    "refused": USAGE,
    "failed": FAILED,
    "error": FAILED,
    "lost": FAILED,
    "finished": DONE,
}

_PRECEDENCE = (INTERRUPTED, BUDGET_SPENT, SUPERSEDED, STORE_GIVEN_UP, USAGE, FAILED)


def exit_code_of_error(error: Exception) -> int:
    """The exit code of a command that ends with `error`: the first class in the table that it is one of."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), FAILED)


def exit_code_of_outcomes(kinds: Iterable[str]) -> int:
    """The exit code of a search whose runs ended with outcomes of these kinds. Raises: KeyError on an unknown kind."""
    codes = {_OF_OUTCOMES[kind] for kind in kinds}
    return next((code for code in _PRECEDENCE if code in codes), DONE)
