package app.lingualinked.device

import android.app.Activity
import android.app.ActivityManager
import android.content.BroadcastReceiver
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.content.res.Configuration
import android.net.ConnectivityManager
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock
import androidx.core.content.ContextCompat
import app.tauri.plugin.JSObject

/** Android answers for the headroom no more often than this: else it says NaN. */
private const val HEADROOM_PERIOD_MS = 10_000L

/** How far ahead the headroom is asked for. */
private const val HEADROOM_FORECAST_S = 10

/** What Rust takes for "not told". */
private const val UNKNOWN = -1

/** Reads how the phone is, and calls [changed] when that changes suddenly. */
internal class Gauge(
    private val activity: Activity,
    private val holds: Holds,
    private val changed: () -> Unit,
) {
    private val memory = activity.getSystemService(ActivityManager::class.java)
    private val power = activity.getSystemService(PowerManager::class.java)
    private val network = activity.getSystemService(ConnectivityManager::class.java)
    private var headroom = UNKNOWN.toFloat()
    private var headroomAskedAt: Long? = null
    private var isStarted = false

    private val events = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) = changed()
    }

    private val trims = object : ComponentCallbacks2 {
        override fun onTrimMemory(level: Int) = changed()

        override fun onConfigurationChanged(config: Configuration) = Unit

        @Deprecated("Android has replaced it by onTrimMemory, and still wants it")
        override fun onLowMemory() = changed()
    }

    private val heat: PowerManager.OnThermalStatusChangedListener? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            PowerManager.OnThermalStatusChangedListener { changed() }
        } else {
            null
        }

    fun start() {
        if (isStarted) return
        isStarted = true

        val filter = IntentFilter(Intent.ACTION_POWER_CONNECTED)
        filter.addAction(Intent.ACTION_POWER_DISCONNECTED)
        filter.addAction(Intent.ACTION_BATTERY_LOW)
        filter.addAction(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED)
        ContextCompat.registerReceiver(
            activity, events, filter, ContextCompat.RECEIVER_NOT_EXPORTED
        )
        activity.registerComponentCallbacks(trims)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q && heat != null) {
            power.addThermalStatusListener(activity.mainExecutor, heat)
        }
    }

    fun stop() {
        if (!isStarted) return
        isStarted = false

        activity.unregisterReceiver(events)
        activity.unregisterComponentCallbacks(trims)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q && heat != null) {
            power.removeThermalStatusListener(heat)
        }
    }

    /** Rust's `AndroidReport`. */
    fun report(): JSObject {
        val told = ActivityManager.MemoryInfo()
        memory.getMemoryInfo(told)
        // The last broadcast is kept by the system: nobody has to receive it.
        val battery = activity.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))

        val report = JSObject()
        report.put("availableBytes", told.availMem)
        report.put("thresholdBytes", told.threshold)
        report.put("totalBytes", told.totalMem)
        report.put("lowMemory", told.lowMemory)
        report.put("batteryPercent", percent(battery))
        report.put("charging", isPluggedIn(battery))
        report.put("powerSave", power.isPowerSaveMode)
        report.put("thermalStatus", thermalStatus())
        report.put("headroom", headroom().toDouble())
        report.put("radioLock", holds.isRadioAwake)
        report.put("metered", network.isActiveNetworkMetered)
        return report
    }

    private fun percent(battery: Intent?): Int {
        val level = battery?.getIntExtra(BatteryManager.EXTRA_LEVEL, UNKNOWN) ?: UNKNOWN
        val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, UNKNOWN) ?: UNKNOWN
        val isThere = battery?.getBooleanExtra(BatteryManager.EXTRA_PRESENT, true) ?: false

        return if (isThere && level >= 0 && scale > 0) level * 100 / scale else UNKNOWN
    }

    private fun isPluggedIn(battery: Intent?): Boolean =
        (battery?.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0) ?: 0) != 0

    private fun thermalStatus(): Int =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) power.currentThermalStatus else UNKNOWN

    private fun headroom(): Float {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return headroom

        val now = SystemClock.elapsedRealtime()
        val isDue = headroomAskedAt?.let { now - it >= HEADROOM_PERIOD_MS } ?: true
        if (isDue) {
            headroomAskedAt = now
            val told = power.getThermalHeadroom(HEADROOM_FORECAST_S)
            // JSON has no NaN: that is what a phone says that does not know.
            headroom = if (told.isNaN() || told.isInfinite()) UNKNOWN.toFloat() else told
        }
        return headroom
    }
}
