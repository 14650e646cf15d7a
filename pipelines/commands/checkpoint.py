"""`lingbot checkpoint`: weights of others in, ours out in the released layout."""

import argparse
from pathlib import Path

HELP = "import released or Qwen2.5-VL weights, or export a policy in the released layout"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    importing = actions.add_parser(
        "import", help="make a folder that training can start from (pretrain.initial_checkpoint)"
    )
    importing.add_argument("source", type=Path, help="released or Qwen2.5-VL directory, or a safetensors file in one")
    importing.add_argument("target", type=Path, help="folder to make; it must not hold files")
    importing.add_argument(
        "--from",
        dest="kind",
        default="released",
        help="released: a LingBot-VLA; qwen2_5_vl: the backbone alone, the rest initialised (released)",
    )
    importing.add_argument(
        "--preset", default="", help="sizes that the files do not tell; needed with --from qwen2_5_vl"
    )
    importing.add_argument("--seed", type=int, default=0, help="of the weights that the source lacks (0)")
    exporting = actions.add_parser("export", help="write a released directory")
    exporting.add_argument("source", type=Path, help="bundle, pretrained checkpoint, or imported folder")
    exporting.add_argument("target", type=Path, help="folder to make; it must not hold files")
    exporting.add_argument("--shard-size", default="5GB", help="largest file; one file where all fits (5GB)")
    exporting.add_argument("--dtype", help="fp32 or bf16; as it is stored if not given")


def run(args: argparse.Namespace) -> int:
    return _import(args) if args.action == "import" else _export(args)


def _import(args: argparse.Namespace) -> int:
    from model.errors import UserError, unknown_name
    from model.released.importing import QWEN, SOURCES, import_qwen, import_released

    if args.kind not in SOURCES:
        raise unknown_name("source of a checkpoint (--from)", args.kind, SOURCES)
    if args.kind == QWEN and not args.preset:
        raise UserError("--from qwen2_5_vl needs the policy to build around it: add --preset lingbot_vla_4b_depth.")
    make = import_qwen if args.kind == QWEN else import_released
    record = make(args.source, args.target, preset_name=args.preset, seed=args.seed).record
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    drawn = f", {len(record['seeds'])} of them drawn with seed {args.seed}" if record["seeds"] else ""
    print(f"{args.target}: {record['policy']}, {record['parameters']:,} parameters, {record['tensors']} tensors{drawn}")
    print(f"start from it with: lingbot run --set pretrain.initial_checkpoint={args.target.resolve()}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from model.released.exporting import export_released

    done = export_released(args.source, args.target, shard_size=args.shard_size, dtype=args.dtype)
    for warning in done.warnings:
        print(f"warning: {warning}")
    print(f"{args.target}: {done.tensors} tensors under their released names, of {done.config.name}")
    if done.own_tensors:
        print(f"{args.target}/lingbot_pipelines: {done.own_tensors} tensors that the released model does not have")
    return 0
