//! What firmware links: the device's end of imlink, without heap
