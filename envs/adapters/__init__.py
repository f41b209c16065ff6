"""Environments that others wrote: episodes of Gymnasium and of OpenEnv servers, and rubrics of `verifiers`."""
