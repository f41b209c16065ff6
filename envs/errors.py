"""Every error that Stepwell raises for others to catch has one base, `StepwellError`. Each lies where it is raised.

    StepwellError
    |-- UsageError (ValueError)                what a person gave: a name, an option, a recipe, a file   envs.messages
    |   `-- UnusablePart                       a part of ours or of a plug-in that cannot be had or made    envs.plugins
    |       `-- UnusableEnvironment            the same, of an environment                                 envs.registry
    |-- UnreadableQuestion (ValueError)        a question that the environment cannot read                     envs.core
    |-- UnreadableTasks (ValueError)           a file of programming tasks                              envs.code.tasks
    |-- OtherEnvironment (ValueError)          a saved search of another environment               agent.search.graph
    |-- UnsupportedModel (ValueError)          a model that is not run here                    policies.models.errors
    |-- UnusableModel (ValueError)             a model that cannot be had, or is damaged   policies.models.pretrained
    |-- TemplateError (ValueError)             a chat template that cannot be used     policies.generation.chat_template
    |-- UnreadablePool (ValueError)            a file of samples                             policies.sample_pool
    |-- ServerRefused (ValueError)             a server said no, for good                policies.servers.http_client
    |-- ServerUnavailable (ConnectionError)    no usable reply; later may help       policies.servers.http_client
    |-- BrokenModel (RuntimeError)             numbers that are none                  policies.generation.requests
    |-- EnvironmentFailure (RuntimeError)      an environment raised, hung or gave nonsense            envs.guarded
    |-- ChildFailure (RuntimeError)            a program of another interpreter gave no reply     envs.adapters.child
    |   `-- ChildError                         it answered with an error                          envs.adapters.child
    |-- EpisodeLost (RuntimeError)             a server forgot an episode; it is begun again    envs.adapters.episodes
    |-- NoIsolation (RuntimeError)             nothing here confines the programs of a model      envs.code.sandbox
    |-- SolverError (RuntimeError)             a search failed                                          agent.solver
    |-- Refused                                a request that the server does not serve   agent.interface.server.core
    |-- NotRecorded                            the policy did not record how sure it was      verifiers.confidence
    |-- SearchOver (RuntimeError)              it cannot be steered any more            agent.search.control.handle
    |-- NoSuchSearch (RuntimeError)            no search of that name is under way   agent.interface.control.client
    |-- ControlFailure (RuntimeError)          a process that searches said no       agent.interface.control.client
    `-- NonConforming (AssertionError)         a part breaks rules of its contract                  envs.conformance

The built-in class in parentheses is the other base: code that catches that one goes on working.
"""

from __future__ import annotations


class StepwellError(Exception):
    """The base of all errors above."""
