"""The method: demonstrations, diffusion prior, steering by FastTD3, distillation by DAgger."""
