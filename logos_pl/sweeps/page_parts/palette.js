// Viridis: perceptually uniform, and readable with every common kind of colour blindness.
const VIRIDIS = (
  "44015444025645045745055946075a46085c460a5d460b5e470d60470e6147106347116447136548146748166848176948186a481a6c481b6d481c6e481d6f481f70" +
  "482071482173482374482475482576482677482878482979472a7a472c7a472d7b472e7c472f7d46307e46327e46337f463480453581453781453882443983443a83" +
  "443b84433d84433e85423f854240864241864142874144874045884046883f47883f48893e49893e4a893e4c8a3d4d8a3d4e8a3c4f8a3c508b3b518b3b528b3a538b" +
  "3a548c39558c39568c38588c38598c375a8c375b8d365c8d365d8d355e8d355f8d34608d34618d33628d33638d32648e32658e31668e31678e31688e30698e306a8e" +
  "2f6b8e2f6c8e2e6d8e2e6e8e2e6f8e2d708e2d718e2c718e2c728e2c738e2b748e2b758e2a768e2a778e2a788e29798e297a8e297b8e287c8e287d8e277e8e277f8e" +
  "27808e26818e26828e26828e25838e25848e25858e24868e24878e23888e23898e238a8d228b8d228c8d228d8d218e8d218f8d21908d21918c20928c20928c20938c" +
  "1f948c1f958b1f968b1f978b1f988b1f998a1f9a8a1e9b8a1e9c891e9d891f9e891f9f881fa0881fa1881fa1871fa28720a38620a48621a58521a68522a78522a884" +
  "23a98324aa8325ab8225ac8226ad8127ad8128ae8029af7f2ab07f2cb17e2db27d2eb37c2fb47c31b57b32b67a34b67935b77937b87838b9773aba763bbb753dbc74" +
  "3fbc7340bd7242be7144bf7046c06f48c16e4ac16d4cc26c4ec36b50c46a52c56954c56856c66758c7655ac8645cc8635ec96260ca6063cb5f65cb5e67cc5c69cd5b" +
  "6ccd5a6ece5870cf5773d05675d05477d1537ad1517cd2507fd34e81d34d84d44b86d54989d5488bd6468ed64590d74393d74195d84098d83e9bd93c9dd93ba0da39" +
  "a2da37a5db36a8db34aadc32addc30b0dd2fb2dd2db5de2bb8de29bade28bddf26c0df25c2df23c5e021c8e020cae11fcde11dd0e11cd2e21bd5e21ad8e219dae319" +
  "dde318dfe318e2e418e5e419e7e419eae51aece51befe51cf1e51df4e61ef6e620f8e621fbe723fde725"
).match(/.{6}/g);
// From PuOr of ColorBrewer: orange below zero, purple above; told apart with every common kind of colour blindness.
const DIVERGING = ["b35806", "e08214", "fdb863", "fee0b6", "f7f7f7", "d8daeb", "b2abd2", "8073ac", "542788"];
// Scales are the same for all prompts and lenses, so that a colour means the same everywhere. Bright: near the model, or sure.
// `reach` is the largest difference of two lenses that has a colour of its own.
const QUANTITIES = {
  kl: { button: "KL", text: "KL(row ‖ final), bits, square-root scale", list: "kl_to_final_bits", place: (v) => Math.sqrt(v / 16), ticks: [0, 0.5, 1, 2, 4, 8, 16], open: true, reach: 8 },
  entropy: { button: "entropy", text: "entropy, bits", list: "entropy_bits", place: (v) => v / 16, ticks: [0, 4, 8, 12, 16], open: true, reach: 8 },
  p: { button: "p of top-1", text: "probability of the top token", list: null, place: (v) => 1 - v, ticks: [1, 0.75, 0.5, 0.25, 0], reach: 1 },
};
const MILESTONES = [
  ["first_rank_le_10", "answer at rank ≤ 10"], ["first_rank_le_5", "answer at rank ≤ 5"], ["first_rank_le_1", "answer at rank 1"],
  ["first_kl_below_1.0", "KL(row ‖ final) < 1 bit"], ["first_kl_below_0.5", "KL(row ‖ final) < 0.5 bits"],
  ["first_cos_ge_0.2", "cosine to final ≥ 0.2"], ["first_cos_ge_0.4", "cosine to final ≥ 0.4"], ["first_cos_ge_0.6", "cosine to final ≥ 0.6"],
  ["L_semantic", "L_semantic"], ["L_copy", "L_copy"], ["L_copy_soft", "L_copy_soft, k = $"], ["L_copy_at", "L_copy_at, p > $"],
];
const CHIPS = [
  ["rank", [["first_rank_le_1", "≤1"], ["first_rank_le_5", "≤5"], ["first_rank_le_10", "≤10"]]],
  ["kl", [["first_kl_below_0.5", "KL<½"], ["first_kl_below_1.0", "KL<1"]]],
  ["copy", [["L_copy", "copy"]]],
];
