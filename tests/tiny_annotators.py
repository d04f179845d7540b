"""Detectors, segmenters and depth models of transformers with tiny random weights, saved as annotate loads them."""

import json

import torch
import transformers as tf

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2, "image_size": 32}


def _finish(model, processor, folder):
    with torch.no_grad():
        for parameter in model.parameters():  # the usual start is so small that every answer is the same
            if parameter.ndim > 1:
                parameter.normal_(std=2 / parameter[0].numel() ** 0.5)
    model.save_pretrained(folder)
    if isinstance(processor, dict):
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    else:
        processor.save_pretrained(folder)
    return folder


def depth_anything(folder, *, kind="relative"):
    """Depth Anything, which says whether it is relative or metric."""
    backbone = tf.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=8,
        reassemble_hidden_size=16, depth_estimation_type=kind, max_depth=20 if kind == "metric" else 1,
    )  # fmt: skip
    processor = tf.DPTImageProcessorPil(size={"height": 28, "width": 28}, ensure_multiple_of=14, keep_aspect_ratio=True)
    return _finish(tf.DepthAnythingForDepthEstimation(config), processor, folder)


def zoedepth(folder):
    backbone = tf.BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64, patch_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
        use_relative_position_bias=True,
    )  # fmt: skip
    config = tf.ZoeDepthConfig(
        backbone_config=backbone, backbone_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        bottleneck_features=8, num_relative_features=8, bin_embedding_dim=8, num_attractors=[2, 2, 2, 2],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.5, "max_depth": 10.0, "name": "nyu"}],
        reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    processor = tf.ZoeDepthImageProcessorPil(size={"height": 64, "width": 64}, ensure_multiple_of=32)
    return _finish(tf.ZoeDepthForDepthEstimation(config), processor, folder)


def depth_pro(folder):
    vit = dict(
        model_type="dinov2", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=16,
    )  # fmt: skip
    config = tf.DepthProConfig(
        image_model_config=vit, patch_model_config=vit, fov_model_config=vit, patch_size=32, fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0], intermediate_feature_dims=[16, 16], scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.5], scaled_images_feature_dims=[16, 16], use_fov_model=True,
    )  # fmt: skip
    processor = {
        "image_processor_type": "DepthProImageProcessorFast", "size": {"height": 64, "width": 64},
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    return _finish(tf.DepthProForDepthEstimation(config), processor, folder)


def sam(folder):
    config = tf.SamConfig(
        vision_config=dict(
            hidden_size=16, output_channels=8, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8,
            mlp_dim=16, window_size=4, global_attn_indexes=[0], num_pos_feats=4,
        ),
        prompt_encoder_config=dict(hidden_size=8, image_size=64, patch_size=8, mask_input_channels=4),
        mask_decoder_config=dict(
            hidden_size=8, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8
        ),
    )  # fmt: skip
    image_processor = tf.SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    return _finish(tf.SamModel(config), tf.SamProcessor(image_processor), folder)


def sam2(folder):
    config = tf.Sam2Config(
        vision_config=dict(
            backbone_config=dict(
                model_type="sam2_hiera_det_model", hidden_size=8, num_attention_heads=1, image_size=[64, 64],
                blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64], global_attention_blocks=[3],
                num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 2],
            ),
            backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=16,
        ),
        prompt_encoder_config=dict(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4),
        mask_decoder_config=dict(
            hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8
        ),
    )  # fmt: skip
    processor = {
        "image_processor_type": "Sam2ImageProcessorFast", "size": {"height": 64, "width": 64},
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    return _finish(tf.Sam2Model(config), processor, folder)


def sam2_video(folder):
    """SAM 2 with its memory; its cross-attention wants 64 memory channels, fewer than the hidden size."""
    wide = 128
    config = tf.Sam2VideoConfig(
        vision_config=dict(
            model_type="sam2_vision_model",
            backbone_config=dict(
                model_type="sam2_hiera_det_model", hidden_size=8, num_attention_heads=1, image_size=[64, 64],
                blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64], global_attention_blocks=[3],
                num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 2],
            ),
            backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=wide,
        ),
        prompt_encoder_config=dict(hidden_size=wide, image_size=64, patch_size=16, mask_input_channels=4),
        mask_decoder_config=dict(
            hidden_size=wide, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=8
        ),
        image_size=64, num_maskmem=3, memory_attention_hidden_size=wide, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=16, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=wide, memory_encoder_output_channels=64, mask_downsampler_embed_dim=wide,
        memory_fuser_num_layers=1, memory_fuser_embed_dim=wide, memory_fuser_intermediate_dim=16,
    )  # fmt: skip
    processor = {
        "image_processor_type": "Sam2ImageProcessorFast", "size": {"height": 64, "width": 64},
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    model = tf.Sam2VideoModel(config)
    with torch.no_grad():  # or it sees no object anywhere
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(1e3)
    return _finish(model, processor, folder)


def yolos(folder):
    config = tf.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=8, num_detection_tokens=12, id2label={0: "chair", 1: "table", 2: "cup"},
    )  # fmt: skip
    processor = tf.YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48})
    return _finish(tf.YolosForObjectDetection(config), processor, folder)


def grounding_dino(folder):
    folder.mkdir()
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? a red chair cup".split()
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = tf.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    text = tf.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = tf.GroundingDinoConfig(
        backbone_config=tf.SwinConfig(**SWIN, out_indices=[2, 3, 4]), text_config=text, d_model=32, encoder_layers=1,
        encoder_ffn_dim=16, encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=16, decoder_attention_heads=2,
        num_queries=10, fusion_dropout=0.0, num_feature_levels=4, max_text_len=32,
    )  # fmt: skip
    image_processor = tf.GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    return _finish(
        tf.GroundingDinoForObjectDetection(config), tf.GroundingDinoProcessor(image_processor, tokenizer), folder
    )


def owlvit(folder):
    folder.mkdir()
    letters = "acdehipru"
    words = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = tf.CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], pad_token="!", model_max_length=16
    )
    tower = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = tf.OwlViTConfig(
        text_config=tower | dict(vocab_size=len(words), max_position_embeddings=16, bos_token_id=1, eos_token_id=2),
        vision_config=tower | dict(image_size=48, patch_size=8), projection_dim=16,
    )  # fmt: skip
    image_processor = tf.OwlViTImageProcessorPil(size={"height": 48, "width": 48}, do_center_crop=False)
    return _finish(tf.OwlViTForObjectDetection(config), tf.OwlViTProcessor(image_processor, tokenizer), folder)


def seeded(make, folder, **options):
    """`make` with the same random weights every time."""
    torch.manual_seed(0)
    return make(folder, **options)
