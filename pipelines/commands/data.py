"""`lingbot data`: look at a dataset, check it, map it to a robot. Each action is a module, imported when called."""

from pipelines.actions import Actions

HELP = "look at a dataset, check it, and map it to a robot"

_ACTIONS = Actions("data", ("inspect", "validate", "map", "release"))
configure, run = _ACTIONS.configure, _ACTIONS.run
