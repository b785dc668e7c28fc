"""A selection of ONNX's own operator tests; benchmarks/onnx_conformance.py runs all of them."""

import pytest

from benchmarks.onnx_conformance import node_tests, run_case

_SELECTED = """
    add_bcast averagepool_2d_ceil averagepool_2d_precomputed_pads_count_include_pad
    averagepool_2d_same_lower argmax_keepdims_example_select_last_index attention_4d_gqa
    attention_4d_with_past_and_present attention_4d_with_qk_matmul_softcap basic_conv_with_padding
    batchnorm_example bitshift_right_uint8 clip_default_max conv_with_autopad_same
    conv_with_strides_and_asymmetric_padding convinteger_with_padding convtranspose_autopad_same
    convtranspose_pads cumsum_1d_exclusive depthtospace_example dequantizelinear_axis div_int8
    dynamicquantizelinear einsum_batch_matmul expand_dim_unchanged flatten_negative_axis1
    gather_negative_indices gathernd_example_int32_batch_dim1 gelu_tanh_1 gemm_all_attributes
    group_normalization_example gru_with_initial_bias hardsigmoid_example if instancenorm_epsilon
    isinf_negative layer_normalization_3d_axis1_epsilon logsoftmax_axis_1 loop11 lrn_default
    lstm_with_peepholes matmulinteger maxpool_2d_ceil maxpool_with_argmax_2d_precomputed_strides
    mod_mixed_sign_int8 mvn onehot_negative_indices pow_types_float32_int64 prelu_broadcast
    qlinearmatmul_2D_uint8_float32 quantizelinear_axis range_float_type_positive_delta
    reduce_log_sum_exp_keepdims_example reduce_sum_empty_set reflect_pad
    reshape_zero_and_negative_dim resize_downsample_scales_cubic_antialias resize_tf_crop_and_resize
    resize_upsample_sizes_nearest_ceil_half_pixel rms_normalization_2d_axis1
    rotary_embedding_interleaved scatter_elements_with_reduction_min scatternd_add
    simple_rnn_with_initial_bias slice_neg_steps softmax_negative_axis spacetodepth_example
    split_variable_parts_2d_opset18 tensorscatter_circular top_k_same_values tril_neg where_example
""".split()


@pytest.fixture(scope="module")
def cases() -> dict[str, object]:
    return {c.name: c for c in node_tests()}


@pytest.mark.parametrize("name", _SELECTED)
def test_operator(cases: dict[str, object], name: str) -> None:
    outcome = run_case(cases[f"test_{name}"])
    assert outcome.passed, outcome
