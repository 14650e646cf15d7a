"""`lingbot annotate`: what people do with annotations. Each action is a module, imported when called."""

from pipelines.actions import Actions

HELP = "review annotations, sample them, compare reviewers, and see how diverse they are"

_ACTIONS = Actions(
    "annotate", ("review", "export", "import", "sample", "errors", "agreement", "checkpoints", "diversity")
)
configure, run = _ACTIONS.configure, _ACTIONS.run
