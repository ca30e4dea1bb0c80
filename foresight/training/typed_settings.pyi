# For trl 1.16.0 and transformers 5.24.0, by eval/typed_settings.py.
from typing import Any, TypedDict

class TypedSettings(TypedDict, total=False):
    output_dir: str | None
    per_device_train_batch_size: int
    num_train_epochs: float
    max_steps: int
    learning_rate: float
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict | str | None
    warmup_steps: float
    optim: str
    optim_args: str | None
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    optim_target_modules: None | str | list[str]
    gradient_accumulation_steps: int
    average_tokens_across_devices: bool
    max_grad_norm: float
    label_smoothing_factor: float
    bf16: bool | None
    fp16: bool
    bf16_full_eval: bool
    fp16_full_eval: bool
    tf32: bool | None
    activation_checkpointing: bool | None
    activation_checkpointing_kwargs: dict[str, Any] | str | None
    gradient_checkpointing: bool
    gradient_checkpointing_kwargs: dict[str, Any] | str | None
    torch_compile: bool
    torch_compile_backend: str | None
    torch_compile_mode: str | None
    use_liger_kernel: bool
    liger_kernel_config: dict[str, Any] | None
    use_cache: bool
    neftune_noise_alpha: float | None
    torch_empty_cache_steps: int | None
    auto_find_batch_size: bool
    logging_strategy: str
    logging_steps: float
    logging_first_step: bool
    log_on_each_node: bool
    logging_nan_inf_filter: bool
    include_num_input_tokens_seen: str | bool
    log_level: str
    log_level_replica: str
    disable_tqdm: bool | None
    report_to: None | str | list[str]
    run_name: str | None
    project: str
    trackio_space_id: str | None
    trackio_bucket_id: str | None
    trackio_static_space_id: str | None
    eval_strategy: str
    eval_steps: float | None
    eval_delay: float
    per_device_eval_batch_size: int
    prediction_loss_only: bool
    eval_on_start: bool
    eval_do_concat_batches: bool
    eval_use_gather_object: bool
    eval_accumulation_steps: int | None
    include_for_metrics: list[str]
    batch_eval_metrics: bool
    save_only_model: bool
    save_strategy: str
    save_steps: float
    save_on_each_node: bool
    save_total_limit: int | None
    enable_jit_checkpoint: bool
    push_to_hub: bool
    hub_token: str | None
    hub_private_repo: bool | None
    hub_model_id: str | None
    hub_strategy: str
    hub_always_push: bool
    hub_revision: str | None
    load_best_model_at_end: bool
    metric_for_best_model: str | None
    greater_is_better: bool | None
    ignore_data_skip: bool
    restore_callback_states_from_checkpoint: bool
    full_determinism: bool
    seed: int
    data_seed: int | None
    use_cpu: bool
    accelerator_config: dict | str | None
    parallelism_config: Any | None
    dataloader_drop_last: bool
    dataloader_num_workers: int
    dataloader_pin_memory: bool
    dataloader_persistent_workers: bool
    dataloader_prefetch_factor: int | None
    dataloader_multiprocessing_context: str | None
    dataloader_in_order: bool
    remove_unused_columns: bool
    label_names: list[str] | None
    train_sampling_strategy: str
    length_column_name: str
    ddp_find_unused_parameters: bool | None
    ddp_bucket_cap_mb: int | None
    ddp_broadcast_buffers: bool | None
    ddp_static_graph: bool | None
    ddp_backend: str | None
    ddp_timeout: int
    fsdp: str | None
    fsdp_config: dict[str, Any] | str | None
    deepspeed: dict | str | None
    debug: str | list[Any]
    skip_memory_metrics: bool
    do_train: bool
    do_eval: bool
    do_predict: bool
    resume_from_checkpoint: str | None
    local_rank: int
    model_init_kwargs: dict[str, Any] | str | None
    trust_remote_code: bool
    router_aux_loss_coef: float | None
    chat_template_path: str | None
    dataset_text_field: str
    dataset_kwargs: dict[str, Any] | str | None
    dataset_num_proc: int | None
    eos_token: str | None
    max_length: int | None
    truncation_mode: str
    shuffle_dataset: bool
    packing: bool
    packing_strategy: str
    padding_free: bool
    pad_to_multiple_of: int | str | None
    eval_packing: bool | None
    completion_only_loss: bool | None
    assistant_only_loss: bool
    loss_type: str
    activation_offloading: bool
    pad_token: str | None
    budget: float
    granularity: str
    policy: str
    policy_params: dict[str, Any] | str | None
    scorer: str
    probe_examples: int | None
    probe_every: int | None
    remask_every: int | None
    target: str
    target_params: dict[str, Any] | str | None
    candidates: dict[str, Any] | str | None
    head_share: float | str | None
    mlp_block: int | None
    history: list[str] | None
    mask_seed: int | None
    forecaster: str
    forecaster_params: dict[str, Any] | str | None
    gate: bool
    horizon: int | None
    probe_batch_size: int | None
    calibrate: bool
    record: bool
    limits: dict[str, Any] | str | None
    budget_schedule: list[Any] | str | None
    restart_every: int
    replay_share: float
    retained_source: dict[str, Any] | str | None
