"""The Barks in the local Hub cache."""

import json
import os

from huggingface_hub import CacheNotFound, scan_cache_dir

MAX_CONFIG_BYTES = 2**20  # no Bark has a larger config.json


def cached_barks(cache_dir: str | os.PathLike | None = None) -> dict[str, str]:
    """Hub ids of the Barks whose weights are in a Hub cache, with human-readable sizes.

    Args:
        cache_dir (`str` or `Path`, *optional*): by default, the cache of `huggingface_hub`.
    """
    try:
        repos = scan_cache_dir(cache_dir).repos
    except (CacheNotFound, OSError, ValueError):
        return {}
    found = {repo.repo_id: repo.size_on_disk_str for repo in repos if repo.repo_type == "model" and _is_bark(repo)}
    return dict(sorted(found.items()))


def _is_bark(repo) -> bool:
    for revision in repo.revisions:
        files = {file.file_name: file.file_path for file in revision.files}
        if "config.json" not in files or not any(name.endswith((".safetensors", ".bin")) for name in files):
            continue
        try:
            if files["config.json"].stat().st_size > MAX_CONFIG_BYTES:
                continue
            config = json.loads(files["config.json"].read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict) and config.get("model_type") == "bark":
            return True
    return False


__all__ = ["cached_barks"]
