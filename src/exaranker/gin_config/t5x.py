"""T5X's names for what is called otherwise here; docs/upstream_t5x.md lists them with those that are the same."""

import re

# Macros and, by the last two words, parameters; the value completes "... is T5X's: ".
T5X_NAMES = {
    "VOCABULARY": "set VOCABULARY_PATH",
    "MODEL_DIR": "set CHECKPOINT_PATH",  # where it is not read, which is in inference and evaluation
    "DROPOUT_RATE": "leave it out, nothing is dropped but in training",
    "EVALUATOR_USE_MEMORY_CACHE": "leave it out, rows are streamed",
    "EVALUATOR_NUM_EXAMPLES": "EVAL_STEPS bounds the evaluation of a training run, `exaranker eval` takes this macro",
    "JSON_WRITE_N_RESULTS": "leave it out, `exaranker eval` writes every prediction",
    "PjitPartitioner.num_partitions": "set MESH_TENSOR",
    "PjitPartitioner.model_parallel_submesh": "set MESH_TENSOR and MESH_FSDP",
    "PjitPartitioner.logical_axis_rules": "set MESH_DATA, MESH_FSDP and MESH_TENSOR",
    "Trainer.num_microbatches": "set NUM_MICROBATCHES",
    "train.total_steps": "set TRAIN_STEPS",
    "train.relative_steps": "set TRAIN_STEPS_RELATIVE",
    "train.eval_steps": "set EVAL_STEPS",
    "train.eval_period": "set EVAL_PERIOD",
    "train.stats_period": "set LOG_PERIOD",
    "train.gc_period": "leave it out",
    "train.random_seed": "set RANDOM_SEED",
    "train.use_hardware_rng": "set USE_HARDWARE_RNG",
    "SaveCheckpointConfig.period": "set CHECKPOINT_PERIOD",
    "SaveCheckpointConfig.keep": "set CHECKPOINTS_TO_KEEP",
    "SaveCheckpointConfig.dtype": "leave it out, weights are saved in float32",
    "SaveCheckpointConfig.save_dataset": "leave it out, the place in the data is always saved",
    "RestoreCheckpointConfig.path": "set INITIAL_CHECKPOINT_PATH to train, else CHECKPOINT_PATH",
    "RestoreCheckpointConfig.mode": "leave it out, the path says which checkpoint",
    "RestoreCheckpointConfig.dtype": "leave it out, weights are read in float32",
    "create_learning_rate_scheduler.factors": "set LEARNING_RATE_FACTORS",
    "create_learning_rate_scheduler.base_learning_rate": "set LEARNING_RATE",
    "create_learning_rate_scheduler.warmup_steps": "set WARMUP_STEPS",
    "DatasetConfig.mixture_or_task_name": "set MIXTURE_OR_TASK_NAME",
    "DatasetConfig.task_feature_lengths": "set TASK_FEATURE_LENGTHS",
    "DatasetConfig.split": "set SPLIT",
    "DatasetConfig.batch_size": "set BATCH_SIZE",
    "DatasetConfig.use_cached": "set USE_CACHED_TASKS",
    "DatasetConfig.pack": "set PACK",
    "DatasetConfig.seed": "set RANDOM_SEED",
    "DatasetConfig.module": "set MIXTURE_OR_TASK_MODULE",
    "infer.mode": "set INFER_MODE",
    "infer.checkpoint_period": "set CHECKPOINT_PERIOD",
    "infer.shard_id": "set SHARD_ID",
    "infer.num_shards": "set NUM_SHARDS",
    "Evaluator.num_examples": "set EVALUATOR_NUM_EXAMPLES",
    "Evaluator.use_memory_cache": "leave it out, rows are streamed",
    "JSONLogger.write_n_results": "leave it out, `exaranker eval` writes every prediction",
    "EncoderDecoderModel.z_loss": "set Z_LOSS",
    "EncoderDecoderModel.label_smoothing": "set LABEL_SMOOTHING",
    "EncoderDecoderModel.loss_normalizing_factor": "set LOSS_NORMALIZING_FACTOR",
}


def instead_of(name: str) -> str:
    """What to write instead of a name of T5X's, or "".

    >>> instead_of("partitioning.PjitPartitioner.num_partitions")
    "PjitPartitioner.num_partitions is T5X's: set MESH_TENSOR"
    """
    last = ".".join(re.split(r"[./]", name)[-2:])
    return f"{last} is T5X's: {T5X_NAMES[last]}" if last in T5X_NAMES else ""
