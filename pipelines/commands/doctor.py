"""`lingbot doctor`: what is missing on this machine, or on a cluster, for which journey, and how to mend it."""

import argparse

HELP = "say what this machine or a cluster lacks for which journey, and how to mend it"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="laptop", help="of a cluster: what is missing there, too (laptop)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.epilog = "Exit code 0: the journeys work here. 2: something that one of them needs is missing."


def run(args: argparse.Namespace) -> int:
    import dataclasses
    import json

    from pipelines.doctor import examine, report_lines
    from pipelines.profile import load_profile

    profile = load_profile(args.profile)
    findings = list(examine())
    if profile.runner == "cluster":
        from pipelines.doctor_cluster import examine_cluster

        findings += examine_cluster(profile)
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        print("\n".join(report_lines(findings)))
    return 2 if any(finding.fix and finding.needed for finding in findings) else 0
