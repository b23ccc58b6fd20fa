/* fastconv's C interface for Python extensions, which need not link with anything:
 *
 *     #include <Python.h>
 *     #include <fastconv_capsule.h>
 *
 *     const fastconv_api* fastconv = fastconv_import();   // in the module's initialisation
 *     if (!fastconv) return NULL;                         // an exception is set
 *     ...
 *     status = fastconv->run(&problem, NULL, x, w, NULL, y);   // the GIL is not needed
 *
 * `python -m fastconv --includes` prints where this header is. */
#ifndef FASTCONV_CAPSULE_H
#define FASTCONV_CAPSULE_H

#include <Python.h>

#include "fastconv.h"

/* Where the capsule is, which is also its name. */
#define FASTCONV_CAPSULE "fastconv._C_API"

/* Imports fastconv and returns its functions, valid as long as the process lives. Null, with an
 * ImportError set, where fastconv is not there, was installed without its native part, or is older
 * than the header that the caller was compiled with. Needs the GIL. */
static inline const fastconv_api* fastconv_import(void) {
    const fastconv_api* api = (const fastconv_api*)PyCapsule_Import(FASTCONV_CAPSULE, 0);
    if (api && api->struct_size < sizeof(fastconv_api)) {
        PyErr_Format(PyExc_ImportError,
                     "this extension was compiled for fastconv %d.%d.%d or later, and found %s",
                     FASTCONV_VERSION_MAJOR, FASTCONV_VERSION_MINOR, FASTCONV_VERSION_PATCH,
                     api->version_string());
        return NULL;
    }
    return api;
}

#endif /* FASTCONV_CAPSULE_H */
