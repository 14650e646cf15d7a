"""Training: `pretrain` on all tasks, `finetune` on one; both export what the next step needs."""
