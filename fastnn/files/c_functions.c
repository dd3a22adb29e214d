// The functions of exported C files. `c_source.py` copies those that a network needs: a part begins with //@, the dtype
// that it is for ("any" for both) and its name. name_ and NAME_ become the prefix of the file, @value the type of the
// activations and @lowest its smallest number.

//@ any places
/* The places in a row of outputs at which one tap of the window is inside the image: from the first to before the end.
   offset: where the tap is at the first place. */
static int name_first(int offset, int stride)
{
    return offset < 0 ? (stride - 1 - offset) / stride : 0;
}

static int name_end(int offset, int stride, int size, int n_places)
{
    const int n = offset < size ? (size - offset + stride - 1) / stride : 0;
    return n < n_places ? n : n_places;
}

//@ float32 dense
/* out = in times weight, plus bias. weight has n_out numbers for each input. Inputs of 0, such as a white page and what
   ReLU leaves out, cost nothing. */
static void name_dense(const float *NAME_RESTRICT in, const float *NAME_RESTRICT weight,
                       const float *NAME_RESTRICT bias, float *NAME_RESTRICT out, int n_in, int n_out)
{
    for (int j = 0; j < n_out; j++)
        out[j] = bias[j];
    for (int i = 0; i < n_in; i++, weight += n_out) {
        const float x = in[i];
        if (x != 0.0f)
            for (int j = 0; j < n_out; j++)
                out[j] += x * weight[j];
    }
}

//@ float32 conv2d
/* A convolution: every filter moves its window over the image. Images have channel after channel, row after row;
   weight has the windows of a filter, one for each channel, filter after filter. */
static void name_conv2d(const float *NAME_RESTRICT in, const name_windows *NAME_RESTRICT w, int n_filters,
                        const float *NAME_RESTRICT weight, const float *NAME_RESTRICT bias, float *NAME_RESTRICT out)
{
    const int n_places = w->out_height * w->out_width;
    for (int o = 0; o < n_filters; o++, out += n_places) {
        const float *channel = in;
        for (int place = 0; place < n_places; place++)
            out[place] = bias[o];
        for (int c = 0; c < w->channels; c++, channel += w->height * w->width)
            for (int k = -w->above; k < w->window_height - w->above; k++)
                for (int l = -w->left; l < w->window_width - w->left; l++) {
                    const float factor = *weight++;
                    const int stride = w->across;
                    const int first = name_first(l, stride), end = name_end(l, stride, w->width, w->out_width);
                    const int last_row = name_end(k, w->down, w->height, w->out_height);
                    for (int i = name_first(k, w->down); i < last_row; i++) {
                        const int seen = (i * w->down + k) * w->width + l;
                        float *row = out + i * w->out_width;
                        if (stride == 1) /* a loop of its own, for vectors */
                            NAME_SHORT_LOOP
                            for (int j = first; j < end; j++)
                                row[j] += factor * channel[seen + j];
                        else
                            for (int j = first; j < end; j++)
                                row[j] += factor * channel[seen + j * stride];
                    }
                }
    }
}

//@ any max_pool2d
/* The largest number of every window of each channel. */
static void name_max_pool2d(const @value *NAME_RESTRICT in, const name_windows *NAME_RESTRICT w,
                            @value *NAME_RESTRICT out)
{
    const int n_places = w->out_height * w->out_width;
    for (int c = 0; c < w->channels; c++, in += w->height * w->width, out += n_places) {
        for (int place = 0; place < n_places; place++)
            out[place] = @lowest;
        for (int k = -w->above; k < w->window_height - w->above; k++)
            for (int l = -w->left; l < w->window_width - w->left; l++) {
                const int stride = w->across;
                const int first = name_first(l, stride), end = name_end(l, stride, w->width, w->out_width);
                const int last_row = name_end(k, w->down, w->height, w->out_height);
                for (int i = name_first(k, w->down); i < last_row; i++) {
                    const int seen = (i * w->down + k) * w->width + l;
                    @value *row = out + i * w->out_width;
                    for (int j = first; j < end; j++) {
                        const @value x = in[seen + j * stride];
                        row[j] = x > row[j] ? x : row[j];
                    }
                }
            }
    }
}

//@ float32 avg_pool2d
/* The mean of every window of each channel. What is around the image counts as 0. */
static void name_avg_pool2d(const float *NAME_RESTRICT in, const name_windows *NAME_RESTRICT w,
                            float *NAME_RESTRICT out)
{
    const int n_places = w->out_height * w->out_width;
    const float n_taps = (float)(w->window_height * w->window_width);
    for (int c = 0; c < w->channels; c++, in += w->height * w->width, out += n_places) {
        for (int place = 0; place < n_places; place++)
            out[place] = 0.0f;
        for (int k = -w->above; k < w->window_height - w->above; k++)
            for (int l = -w->left; l < w->window_width - w->left; l++) {
                const int stride = w->across;
                const int first = name_first(l, stride), end = name_end(l, stride, w->width, w->out_width);
                const int last_row = name_end(k, w->down, w->height, w->out_height);
                for (int i = name_first(k, w->down); i < last_row; i++) {
                    const int seen = (i * w->down + k) * w->width + l;
                    float *row = out + i * w->out_width;
                    for (int j = first; j < end; j++)
                        row[j] += in[seen + j * stride];
                }
            }
        for (int place = 0; place < n_places; place++)
            out[place] /= n_taps;
    }
}

//@ any scale_shift
/* Batch normalisation: every unit, or every channel with n_places numbers, has a scale and a shift. */
static void name_scale_shift(float *NAME_RESTRICT values, const float *NAME_RESTRICT scale,
                             const float *NAME_RESTRICT shift, int n_units, int n_places)
{
    for (int unit = 0; unit < n_units; unit++, values += n_places)
        for (int place = 0; place < n_places; place++)
            values[place] = values[place] * scale[unit] + shift[unit];
}

//@ int8 dense
/* sums = in times weight, plus bias. weight has n_out numbers for each input. Inputs of 0, such as a white page and what
   ReLU leaves out, cost nothing. zero: the level of the number 0. */
static void name_dense(const int8_t *NAME_RESTRICT in, int zero, const int8_t *NAME_RESTRICT weight,
                       const int32_t *NAME_RESTRICT bias, int32_t *NAME_RESTRICT sums, int n_in, int n_out)
{
    for (int j = 0; j < n_out; j++)
        sums[j] = bias[j];
    for (int i = 0; i < n_in; i++, weight += n_out) {
        const int32_t x = in[i] - zero;
        if (x != 0)
            for (int j = 0; j < n_out; j++)
                sums[j] += x * weight[j];
    }
}

//@ int8 conv2d
/* One filter of a convolution moves its window over the image. Images have channel after channel, row after row; weight
   has one window for each channel. zero: the level of the number 0. */
static void name_conv2d(const int8_t *NAME_RESTRICT in, int zero, const name_windows *NAME_RESTRICT w,
                        const int8_t *NAME_RESTRICT weight, int32_t bias, int32_t *NAME_RESTRICT sums)
{
    for (int place = 0; place < w->out_height * w->out_width; place++)
        sums[place] = bias;
    for (int c = 0; c < w->channels; c++, in += w->height * w->width)
        for (int k = -w->above; k < w->window_height - w->above; k++)
            for (int l = -w->left; l < w->window_width - w->left; l++) {
                const int32_t factor = *weight++;
                const int stride = w->across;
                const int first = name_first(l, stride), end = name_end(l, stride, w->width, w->out_width);
                const int last_row = name_end(k, w->down, w->height, w->out_height);
                for (int i = name_first(k, w->down); i < last_row; i++) {
                    const int seen = (i * w->down + k) * w->width + l;
                    int32_t *row = sums + i * w->out_width;
                    if (stride == 1) /* a loop of its own, for vectors */
                        NAME_SHORT_LOOP
                        for (int j = first; j < end; j++)
                            row[j] += factor * (in[seen + j] - zero);
                    else
                        for (int j = first; j < end; j++)
                            row[j] += factor * (in[seen + j * stride] - zero);
                }
            }
}

//@ int8 sum_pool2d
/* The sum of every window of one channel. What is around the image counts as 0. zero: the level of the number 0. */
static void name_sum_pool2d(const int8_t *NAME_RESTRICT in, int zero, const name_windows *NAME_RESTRICT w,
                            int32_t *NAME_RESTRICT sums)
{
    for (int place = 0; place < w->out_height * w->out_width; place++)
        sums[place] = 0;
    for (int k = -w->above; k < w->window_height - w->above; k++)
        for (int l = -w->left; l < w->window_width - w->left; l++) {
            const int stride = w->across;
            const int first = name_first(l, stride), end = name_end(l, stride, w->width, w->out_width);
            const int last_row = name_end(k, w->down, w->height, w->out_height);
            for (int i = name_first(k, w->down); i < last_row; i++) {
                const int seen = (i * w->down + k) * w->width + l;
                int32_t *row = sums + i * w->out_width;
                for (int j = first; j < end; j++)
                    row[j] += in[seen + j * stride] - zero;
            }
        }
}

//@ int8 numbers_of_units
/* The numbers that sums stand for; every unit has a scale. */
static void name_numbers_of_units(const int32_t *NAME_RESTRICT sums, const float *NAME_RESTRICT scale,
                                  float *NAME_RESTRICT values, int n)
{
    for (int j = 0; j < n; j++)
        values[j] = (float)sums[j] * scale[j];
}

//@ int8 numbers
/* The numbers that the sums of one channel stand for. */
static void name_numbers(const int32_t *NAME_RESTRICT sums, float scale, float *NAME_RESTRICT values, int n)
{
    for (int j = 0; j < n; j++)
        values[j] = (float)sums[j] * scale;
}

//@ int8 numbers_of_levels
/* The numbers that levels stand for. */
static void name_numbers_of_levels(const int8_t *NAME_RESTRICT in, int zero, float scale,
                                   float *NAME_RESTRICT values, int n)
{
    for (int j = 0; j < n; j++)
        values[j] = (float)(in[j] - zero) * scale;
}

//@ int8 round
/* The nearest of the 256 levels of each number. levels_per_one: 1 / the scale. zero: the level of the number 0. */
static void name_round(const float *NAME_RESTRICT values, float levels_per_one, int zero, int8_t *NAME_RESTRICT out,
                       int n)
{
    for (int j = 0; j < n; j++) {
        float level = values[j] * levels_per_one + (float)zero;
        level = level > -128.0f ? level : -128.0f;
        level = level < 127.0f ? level : 127.0f;
        out[j] = (int8_t)((int)(level + 128.5f) - 128); /* a cast cuts off the fraction */
    }
}

//@ any softmax
/* exp(x) / sum of exp(x). Subtracting the largest number changes no probability, and nothing overflows. */
static void name_softmax(float *values, int n)
{
    float largest = values[0], total = 0.0f;
    for (int j = 1; j < n; j++)
        largest = values[j] > largest ? values[j] : largest;
    for (int j = 0; j < n; j++) {
        values[j] = expf(values[j] - largest);
        total += values[j];
    }
    for (int j = 0; j < n; j++)
        values[j] /= total;
}

//@ any exp
static void name_exp(float *values, int n)
{
    for (int j = 0; j < n; j++)
        values[j] = expf(values[j]);
}
