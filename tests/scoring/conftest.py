import torch

torch.set_num_threads(1)  # these models are too small to share out
