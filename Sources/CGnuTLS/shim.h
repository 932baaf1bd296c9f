#pragma once
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>

// gnutls_free is a mutable function pointer, which Swift cannot prove safe to read from many threads.
static inline void cgnutls_free(void *memory) { gnutls_free(memory); }
