//! Shared library of the appliance.
