"""The two-armed MuJoCo tasks of the demo: scene, cameras, tasks with checkpoints, scripted expert."""
