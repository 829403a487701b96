/* About: session 6, 40 minutes: a block, mirrored
 * Contract: Block l backwards: read block_forward, and undo its steps from the last to the first.
 *   m->dres(N, C) holds the gradient of the block's output; leave that of its input there. Add to
 *   the gradients of the block's parameters, params_layer(m->tensors, m->g, l). Adapters (lora_...)
 *   are not used here. a = activations_layer(m, l) holds what forward has kept: res, ln1_stats,
 *   qkv, lse, att, res2, ln2_stats, fc. All layers share a.ln(N, C), a.gelu(N, 4C) and a.proj(N,
 *   C): what you need of them must be computed again. m->dwide(N, 4C) and m->dproj(N, C) are yours
 *   to use, and so is a.proj. The keys of dropout are those of block_forward; with a rate of 0 it
 *   does nothing. Call the backward functions of the layers: they say what they write and what they
 *   add to; linear_backward leaves the gradient of the bias to bias_backward.
 * Star: no dropout
 * Star: dropout
 * Hint: A residual sum passes its gradient on unchanged, and the branch adds to it. So dres stays
 *   where it is, and a copy of it goes back through the branch.
 * Hint: For the second half: dproj = dres, through dropout; fcproj: dwide, from gelu(fc); gelu:
 *   in the place of dwide; fc: dproj, from ln2; layernorm: adds to dres. The first half is the same
 *   with attproj, attention, qkv, ln1.
 * Hint: memcpy; dropout; gelu_forward; linear_backward, bias_backward (fcproj); gelu_backward;
 *   layernorm_forward; linear_backward, bias_backward (fc); layernorm_backward, bias_backward
 *   (ln2_w, ln2_b). Then memcpy; dropout; attproj into a.proj; attention_backward into dwide;
 *   layernorm_forward; qkv into dproj; ln1.
 * Mistake: gelu_backward(dwide, dwide, a.fc, 4 * NC); =>
 * Say: The gradient does not pass through GELU: gelu_backward is missing.
 * Mistake: gelu_forward(a.gelu, a.fc, 4 * NC); =>
 * Say: a.gelu still holds another layer's numbers: compute it again before fcproj uses it.
 * Mistake: layernorm_forward(a.ln, a.ln2_stats, a.res2, w.ln2_w, w.ln2_b, N, C); =>
 * Say: a.ln is not that of ln2 when fc uses it: compute it again.
 * Mistake: layernorm_backward(dres, g.ln2_w => memset(dres, 0, NC * sizeof(real));
 *   layernorm_backward(dres, g.ln2_w
 * Say: The gradient that passes by the MLP is lost: layernorm_backward must add to dres.
 * Mistake: layernorm_backward(dres, g.ln1_w => memset(dres, 0, NC * sizeof(real));
 *   layernorm_backward(dres, g.ln1_w
 * Say: The gradient that passes by the attention is lost: layernorm_backward must add to dres.
 * Mistake: bias_backward(g.fc_b, dwide, N, 4 * C) => bias_backward(g.fc_b, dwide, N, C)
 * Say: fc has 4C outputs, so its bias has 4C numbers.
 * Mistake: dproj, a.res, a.ln1_stats => dproj, a.res2, a.ln1_stats
 * Say: The first layernorm has read res, not res2.
 * Mistake: dropout(dproj, NC, d.residual, site_key(d, l, AT_FCPROJ)); =>
 * Say: The dropout behind the MLP is missing.
 * Mistake: dropout(dproj, NC, d.residual, site_key(d, l, AT_ATTPROJ)); =>
 * Say: The dropout behind the attention is missing.
 * Mistake: AT_FCPROJ => AT_SWAPPED ;; AT_ATTPROJ => AT_FCPROJ ;; AT_SWAPPED => AT_ATTPROJ
 * Say: The masks of the two dropouts are exchanged: each place has its own key.
 */

/* Block 0 of two, whose shared buffers hold what block 1 has left there. */
void call(Call *c)
{
    int T = size_of(c, "T", 2, 5), B = size_of(c, "B", 1, 2), N = B * T, C = 6;
    Dropout d = {.residual = (real)rate_of(c, "p", 0.1, 0.5, 2), .key = c->key};
    Model *m = model_new((Config){T, 4, 2, 2, C, 128});
    model_prepare(m, TRAINING, B, T, 0);
    for (size_t i = 0; i < m->count; i++) {
        m->w.wte[i] = random_normal(c->key, (uint32_t)i) / 2;
        m->g.wte[i] = random_normal(c->key + 1, (uint32_t)i);
    }
    for (int i = 0; i < N * C; i++) m->a.res[i] = random_normal(c->key + 2, i);
    for (int l = 0; l < 2; l++) {
        Attention at = attention_of(m, NULL, B, 0, T, d, l);
        block_forward(m, l ? m->a.final_res : activations_layer(m, 1).res, &at, d, l);
    }
    Attention at = attention_of(m, NULL, B, 0, T, d, 0);
    for (int i = 0; i < N * C; i++) m->dres[i] = random_normal(c->key + 3, i);
    attempt(m, &at, d, 0);
    memcpy(REALS("dres", 'r', N, C), m->dres, N * C * sizeof(real));
    for (int i = 0; i < TENSORS; i++)
        if (m->tensors[i].layered)
            memcpy(REALS(format("gradient of %s", m->tensors[i].field), 'r', m->tensors[i].rows,
                         m->tensors[i].columns), m->g.tensor[i], m->tensors[i].size * sizeof(real));
    model_free(m);
}
