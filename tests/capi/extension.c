/* A Python extension that convolves through fastconv's capsule and links with nothing of it:
 * convolve(x, w) of C-contiguous float32 buffers (c, h, w) and (k, c, r, s), as bytes. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fastconv_capsule.h>

static const fastconv_api* fastconv;

static fastconv_status run(const Py_buffer* x, const Py_buffer* w, fastconv_problem* problem,
                           void* y) {
    fastconv_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = fastconv->run(problem, NULL, x->buf, w->buf, NULL, y);
    Py_END_ALLOW_THREADS;
    return status;
}

static PyObject* convolve_buffers(const Py_buffer* x, const Py_buffer* w) {
    fastconv_problem problem;
    int64_t sizes[2];
    PyObject* y = NULL;
    if (x->ndim != 3 || w->ndim != 4) {
        PyErr_SetString(PyExc_ValueError, "needs x (c, h, w) and w (k, c, r, s)");
        return NULL;
    }
    fastconv->problem_init(&problem, sizeof problem);
    problem.c = x->shape[0];
    problem.k = w->shape[0];
    problem.image[0] = x->shape[1];
    problem.image[1] = x->shape[2];
    problem.kernel[0] = w->shape[2];
    problem.kernel[1] = w->shape[3];
    if (fastconv->output_size(&problem, sizes) == FASTCONV_OK) {
        const Py_ssize_t bytes = (Py_ssize_t)(problem.k * sizes[0] * sizes[1] * 4);
        y = PyBytes_FromStringAndSize(NULL, bytes);
        if (!y || run(x, w, &problem, PyBytes_AS_STRING(y)) == FASTCONV_OK) return y;
    }
    Py_XDECREF(y);
    PyErr_SetString(PyExc_ValueError, fastconv->last_error());
    return NULL;
}

static PyObject* convolve(PyObject* self, PyObject* arguments) {
    Py_buffer x, w;
    PyObject *a, *b, *y = NULL;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO", &a, &b)) return NULL;
    if (PyObject_GetBuffer(a, &x, PyBUF_ND) < 0) return NULL;
    if (PyObject_GetBuffer(b, &w, PyBUF_ND) == 0) {
        y = convolve_buffers(&x, &w);
        PyBuffer_Release(&w);
    }
    PyBuffer_Release(&x);
    return y;
}

static PyMethodDef methods[] = {{"convolve", convolve, METH_VARARGS, "convolve(x, w) -> bytes"},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "capsule_extension", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_capsule_extension(void) {
    fastconv = fastconv_import();
    return fastconv ? PyModule_Create(&definition) : NULL;
}
