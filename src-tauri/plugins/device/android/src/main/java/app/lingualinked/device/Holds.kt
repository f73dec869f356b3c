package app.lingualinked.device

import android.app.Activity
import android.content.Context
import android.net.wifi.WifiManager
import android.os.Build
import android.os.PowerManager
import android.view.WindowManager

/** Rust asks again before this is over (`AGAIN`), as long as it needs the processor. If it does not, that may sleep. */
private const val PROCESSOR_MS = 600_000L

/** What is held for the app, each at most once. */
internal class Holds(private val activity: Activity) {
    private val wifi =
        activity.applicationContext.getSystemService(Context.WIFI_SERVICE) as WifiManager
    private val power = activity.getSystemService(PowerManager::class.java)

    private val multicast = wifi.createMulticastLock("lingualinked:multicast").apply {
        setReferenceCounted(false)
    }
    private val radio = wifi.createWifiLock(radioMode(), "lingualinked:radio").apply {
        setReferenceCounted(false)
    }
    private val processor =
        power.newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "lingualinked:processor").apply {
            setReferenceCounted(false)
        }

    val isRadioAwake: Boolean
        get() = radio.isHeld

    fun hold(wanted: HoldArgs) {
        if (wanted.multicast) multicast.acquire() else if (multicast.isHeld) multicast.release()
        if (wanted.lowLatencyWifi) radio.acquire() else if (radio.isHeld) radio.release()
        if (wanted.processor) {
            processor.acquire(PROCESSOR_MS)
        } else if (processor.isHeld) {
            processor.release()
        }

        if (wanted.screen) {
            activity.window?.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        } else {
            activity.window?.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        }
    }

    private fun radioMode(): Int =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            WifiManager.WIFI_MODE_FULL_LOW_LATENCY
        } else {
            @Suppress("DEPRECATION")
            WifiManager.WIFI_MODE_FULL_HIGH_PERF
        }
}
