/* The inner loops of scheduling, compiled: evaluate a placement, climb, cut, pack.
 *
 * reference.py, cutting.py and packing.py are the same program in Python and document every function; tests
 * hold the two equal bit for bit. All times are integer ticks, all energies integer picojoules, scores are IEEE
 * doubles computed in the same order on both sides.
 */
#include "native.h"

static PyMethodDef module_methods[] = {
    {"peak_bytes", peak_bytes, METH_VARARGS, "The most bytes alive at once; see packing.py."},
    {"reuse_waits", reuse_waits, METH_VARARGS, "Waits that protect reused memory; see reuse.py."},
    {"pack_within", pack_within, METH_VARARGS, "Offsets within a capacity; see packing.py."},
    {"pack", pack, METH_VARARGS, "Offsets by first fit; see packing.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", "Compiled twin of h4hc.passes.core.reference.", -1, module_methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
    if (PyType_Ready(&ProblemType) < 0 || PyType_Ready(&LineType) < 0 || PyType_Ready(&LoopType) < 0) return NULL;
    PyObject *m = PyModule_Create(&module);
    if (!m) return NULL;
    Py_INCREF(&ProblemType);
    if (PyModule_AddObject(m, "Problem", (PyObject *)&ProblemType) < 0) { Py_DECREF(m); return NULL; }
    Py_INCREF(&LineType);
    if (PyModule_AddObject(m, "Line", (PyObject *)&LineType) < 0) { Py_DECREF(m); return NULL; }
    Py_INCREF(&LoopType);
    if (PyModule_AddObject(m, "Loop", (PyObject *)&LoopType) < 0) { Py_DECREF(m); return NULL; }
    return m;
}
