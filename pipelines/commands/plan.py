"""`lingbot plan`: what something will cost, before it is done. Each action is a module, imported when called."""

from pipelines.actions import Actions

HELP = "say what something costs before it is done: depth tokens, or a training on many GPUs"

_ACTIONS = Actions("plan", ("tokens", "training"))
configure, run = _ACTIONS.configure, _ACTIONS.run
